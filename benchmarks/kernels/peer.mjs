// The calls made in V8: JavaScript as one would write it, and three modules in WebAssembly.
//
// Speaks the lines of worker.py: node peer.mjs FOLDER OUR_MODULE NPM_FOLDER

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, ours, npm] = process.argv.slice(2);
const SAMPLE_MS = 0.2, WARM_CALLS = 20, WARM_MS = 500;

// A file of float64 as numpy.save writes it, as two rows.
function pair() {
  const bytes = readFileSync(join(folder, 'pair.npy'));
  const numbers = bytes.subarray(10 + bytes.readUInt16LE(8));
  const values = new Float64Array(Uint8Array.from(numbers).buffer);
  return [values.slice(0, values.length / 2), values.slice(values.length / 2)];
}

// --- JavaScript -------------------------------------------------------------

// As in textbooks: the whole matrix, an array of arrays, made cell by cell.
function textbook() {
  const [a, b] = pair().map((row) => Array.from(row));
  return () => {
    const matrix = [];
    for (let i = 0; i <= a.length; i++) {
      matrix.push([]);
      for (let j = 0; j <= b.length; j++) matrix[i].push(Infinity);
    }
    matrix[0][0] = 0;
    for (let i = 1; i <= a.length; i++) {
      for (let j = 1; j <= b.length; j++) {
        const cost = (a[i - 1] - b[j - 1]) ** 2;
        matrix[i][j] = cost + Math.min(matrix[i - 1][j], matrix[i][j - 1], matrix[i - 1][j - 1]);
      }
    }
    return Math.sqrt(matrix[a.length][b.length]);
  };
}

// The same with each row made at once. Not shared with the above: V8 compiles a function for the
// kinds of arrays that it has seen there, and one that has seen both kinds is slower for either.
function filled() {
  const [a, b] = pair().map((row) => Array.from(row));
  return () => {
    const matrix = [];
    for (let i = 0; i <= a.length; i++) matrix.push(new Array(b.length + 1).fill(Infinity));
    matrix[0][0] = 0;
    for (let i = 1; i <= a.length; i++) {
      for (let j = 1; j <= b.length; j++) {
        const cost = (a[i - 1] - b[j - 1]) ** 2;
        matrix[i][j] = cost + Math.min(matrix[i - 1][j], matrix[i][j - 1], matrix[i - 1][j - 1]);
      }
    }
    return Math.sqrt(matrix[a.length][b.length]);
  };
}

// As someone writes it who cares for speed: typed arrays, two rows, no call of Math.min.
function typed() {
  const [a, b] = pair();
  return () => {
    let before = new Float64Array(b.length + 1).fill(Infinity);
    let row = new Float64Array(b.length + 1);
    before[0] = 0;
    for (const x of a) {
      row[0] = Infinity;
      for (let j = 1; j <= b.length; j++) {
        const step = x - b[j - 1];
        let best = before[j - 1];
        if (before[j] < best) best = before[j];
        if (row[j - 1] < best) best = row[j - 1];
        row[j] = best + step * step;
      }
      [before, row] = [row, before];
    }
    return Math.sqrt(before[b.length]);
  };
}

// --- WebAssembly ------------------------------------------------------------

// The module that ships with the kernels; copying the series in is part of a call.
async function midstreamer() {
  const { instance } = await WebAssembly.instantiate(readFileSync(ours));
  const { memory, alloc, dtw_compare: compare } = instance.exports;
  const series = pair().map((row) => Float32Array.from(row));
  const places = series.map((row) => alloc(4 * row.length));
  return () => {
    series.forEach((row, which) =>
      new Float32Array(memory.buffer, places[which], row.length).set(row));
    return compare(places[0], series[0].length, places[1], series[1].length);
  };
}

async function augurs() {
  const from = join(npm, 'augurs');
  const made = await import(pathToFileURL(join(from, 'dtw.js')));
  await made.default({ module_or_path: readFileSync(join(from, 'dtw_bg.wasm')) });
  const [a, b] = pair();
  const measure = made.Dtw.euclidean();
  return () => measure.distance(a, b);
}

async function namesake() {
  const load = createRequire(import.meta.url);
  const { TemporalCompare } = load(join(npm, 'midstreamer', 'pkg-node', 'midstream_wasm.js'));
  const [a, b] = pair();
  const measure = new TemporalCompare();
  return () => measure.dtw(a, b);
}

// --- measuring --------------------------------------------------------------

const CALLS = { textbook, filled, typed, midstreamer, augurs, namesake };
const prepared = {};

async function prepare({ call }) {
  const made = await CALLS[call]();
  const begin = performance.now();
  const answer = made();
  let calls = 1;
  while (calls < WARM_CALLS && performance.now() - begin < WARM_MS) {
    made();
    calls++;
  }
  const again = performance.now();  // the first calls were interpreted
  made();
  prepared[call] = { made, ms: performance.now() - again };
  return { answer };
}

function time({ call, budget_s: budget }) {
  const { made, ms } = prepared[call];
  const inner = Math.max(1, Math.round(SAMPLE_MS / ms));
  const samples = [];
  const begin = performance.now();
  let now = begin;
  while (now - begin < 1000 * budget) {
    for (let k = 0; k < inner; k++) made();
    const then = now;
    now = performance.now();
    samples.push((now - then) / inner / 1000);
  }
  return { samples_s: samples };
}

async function answer(asked) {
  try {
    if (asked.do === 'prepare') return await prepare(asked);
    if (asked.do === 'time') return time(asked);
    return {};
  } catch (error) {
    return { error: String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
