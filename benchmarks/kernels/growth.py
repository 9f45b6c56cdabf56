"""Measure how cost grows with size: calls on histories and collections of many sizes.

These calls run in a process that may use every processor, because two threads are measured too.
Build time and memory are measured once, while a call is prepared.  The call itself makes one
search, and the time of this search is measured.  The matches that the search finds are not needed.
So the call returns the build time and the memory as its answer, in place of the matches.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

import midstreamer_kernels as kernels
from benchmarks.kernels.data import LENGTH, NARROW, Files, walks
from benchmarks.kernels.tasks import Entry, Task

WHERE = "ours, all processors"
"""Name of the process that runs the calls of the growth table."""
CHUNK = 100_000
APPENDED = 1_000
COMPILED = 1_000
"""Number of points or rows in a small search before each measurement.

This search compiles the kernels, so that the measurement includes no compilation.
"""
POINTS, ROWS = (10**5, 10**6, 10**7), (10**4, 10**5, 10**6)
SMALL_POINTS, SMALL_ROWS = (10**4, 10**5), (10**3, 10**4)
THREADS = (1, 2)

Call = Callable[[int], dict[str, float]]


def tasks(*, quick: bool) -> tuple[Task, ...]:
    """Return the two tasks of the growth table."""
    points, rows = (SMALL_POINTS, SMALL_ROWS) if quick else (POINTS, ROWS)
    return (_task("history", "points", points), _task("collection", "rows", rows))


def _task(call: str, unit: str, sizes: tuple[int, ...]) -> Task:
    entries = tuple(
        Entry(f"{call}, {size:,} {unit}, {threads} threads".replace("1 threads", "1 thread"),
              WHERE, call, (size, threads), same_question=False)
        for size in sizes
        for threads in THREADS
    )  # fmt: skip
    return Task(f"growth-{call}", f"growth of a {call}", (), entries, rounds=5, budget_s=0.2)


class Facts:
    """What it costs to build an object: seconds, and bytes that the object holds afterwards."""

    seconds = 0.0
    held_bytes = 0


@contextmanager
def _made() -> Iterator[Facts]:
    facts = Facts()
    tracemalloc.start()
    begin = time.perf_counter()
    yield facts
    facts.seconds = time.perf_counter() - begin
    facts.held_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def history(_: Files, points: int, threads: int) -> Call:
    """Return a call that searches a history for a window of another random walk.

    The history keeps its statistics between searches, as the history of a live series does.
    """
    values, query = walks(7, points).astype(np.float32), walks(9, LENGTH)
    kernels.History(values[:COMPILED]).search(query, band=NARROW)
    with _made() as facts:
        made = kernels.History(values)
        made.search(query, band=NARROW)
    appended = []
    for value in values[:APPENDED]:
        begin = time.perf_counter()
        made.append([value])
        appended.append(time.perf_counter() - begin)
    answer = {
        "build_s": facts.seconds,
        "bytes_per_point": facts.held_bytes / points,
        "append_s": statistics.median(appended),
    }

    def call(_: int) -> dict[str, float]:
        made.search(query, band=NARROW, threads=threads)
        return answer

    return call


def collection(_: Files, rows: int, threads: int) -> Call:
    """Return a call that searches a collection for one random walk after another."""
    values, queries = _rows(rows), _rows(50, seed=6)
    kernels.Collection(values[:COMPILED]).nearest(queries[0], band=NARROW)
    with _made() as facts:
        made = kernels.Collection(values)
        made.nearest(queries[0], band=NARROW)
    answer = {"build_s": facts.seconds, "bytes_per_point": facts.held_bytes / values.size}

    def call(number: int) -> dict[str, float]:
        made.nearest(queries[number % len(queries)], band=NARROW, threads=threads)
        return answer

    return call


def _rows(count: int, seed: int = 5) -> NDArray[np.float32]:
    """Return z-normalised walks as float32 of shape (count, LENGTH).

    They are made in chunks, because a million rows in float64 need a gigabyte.
    """
    made = np.empty((count, LENGTH), dtype=np.float32)
    for begin in range(0, count, CHUNK):
        part = walks(seed + begin, min(CHUNK, count - begin), LENGTH)
        part -= part.mean(axis=1, keepdims=True)
        made[begin : begin + CHUNK] = part / part.std(axis=1, keepdims=True)
    return made
