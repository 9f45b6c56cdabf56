/* The parts of the WebAssembly module that are written in C: the memory allocator, the longest
 * common subsequence (lcss.h) and the search, with SIMD128. The DTW comparison of pairs is emitted.
 *
 * The arithmetic is that of the numba engine, operation by operation, so both return the same
 * bits: nothing here is reordered, fused or relaxed. The module imports nothing. It has its own
 * stack allocator, whose memory grows on demand.
 *
 * `memory`, `alloc` and `dtw_compare` are the contract that modules written by users keep too. All
 * other exports are for the host of this package.
 */
#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT_AS(name) __attribute__((export_name(#name)))
#define EXPORT(name) EXPORT_AS(name)

/* Memory allocation: a stack of blocks above the static data. */

extern unsigned char __heap_base;
static uint64_t heap_top;

static void *allocate(uint64_t bytes) {
  if (!heap_top) heap_top = ((uint64_t)(uintptr_t)&__heap_base + 15) & ~15ull;
  uint64_t end = (heap_top + bytes + 15) & ~15ull;
  uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
  if (end > UINT32_MAX) return 0;
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == (uintptr_t)-1)
    return 0;
  void *block = (void *)(uintptr_t)heap_top;
  heap_top = end;
  return block;
}

/* Allocate `bytes` bytes, aligned to 16; return 0 if memory is exhausted. */
EXPORT(alloc) void *alloc(int32_t bytes) { return bytes < 0 ? 0 : allocate((uint64_t)bytes); }

/* Free `block` and all blocks allocated after it. */
EXPORT(release) void release(void *block) { heap_top = (uint64_t)(uintptr_t)block; }

static int32_t min2(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t max2(int32_t a, int32_t b) { return a > b ? a : b; }

#include "lcss.h"

/* Comparison of two whole series. The loops are emitted by emit/dtw_of_pair.py and linked by build.py:
 * `room` returns the number of elements of scratch memory that they need, aligned to 16 bytes. */

#define PAIR(number, suffix)                                                                      \
  int64_t room_##suffix(int64_t n, int64_t m, int64_t band);                                      \
  number pair_##suffix(const number *a, int32_t n, const number *b, int32_t m, number limit,      \
                       number *scratch);                                                          \
  number banded_pair_##suffix(const number *a, int32_t n, const number *b, int32_t m,             \
                              int32_t band, number limit, number *scratch);                       \
                                                                                                  \
  /* Return the squared DTW distance with |i - j| <= band, infinity if it surely exceeds          \
   * `limit`, or -1 if memory is exhausted. */                                                    \
  static number dtw_##suffix(const number *a, int32_t n, const number *b, int32_t m,              \
                             int32_t band, number limit) {                                        \
    int32_t bounded = band < max2(n, m) - 1;                                                      \
    int64_t room = room_##suffix(n, m, bounded ? band : -1);                                      \
    number *scratch = allocate((uint64_t)room * sizeof(number));                                  \
    if (!scratch) return -1;                                                                      \
    number cost = bounded ? banded_pair_##suffix(a, n, b, m, band, limit, scratch)                \
                          : pair_##suffix(a, n, b, m, limit, scratch);                            \
    release(scratch);                                                                             \
    return cost;                                                                                  \
  }

PAIR(float, f32)
PAIR(double, f64)

/* The arguments and the result of a comparison. They are in memory, because passing numbers takes a
 * host in Python longer than everything else. pairs.py has the same layout. */
static struct pair {
  const void *a, *b;
  int32_t n, m, band, is_double;
  double limit, cost;
} pair;

EXPORT(pair_place) struct pair *pair_place(void) { return &pair; }

EXPORT(compare_pair) void compare_pair(void) {
  if (pair.is_double)
    pair.cost = dtw_f64(pair.a, pair.n, pair.b, pair.m, pair.band, pair.limit);
  else
    pair.cost = dtw_f32(pair.a, pair.n, pair.b, pair.m, pair.band, (float)pair.limit);
}

/* Compute the longest common subsequence of the two float64 series in `pair`; `limit` holds
 * epsilon, and `cost` receives the length, or -1 if memory is exhausted. */
EXPORT(match_pair) void match_pair(void) {
  pair.cost = lcss_length(pair.a, pair.n, pair.b, pair.m, pair.limit, pair.band);
}

/* Return the DTW distance of two float32 series over the full matrix; NaN if memory is exhausted or
 * a series is empty. */
EXPORT(dtw_compare) float dtw_compare(const float *a, int32_t n, const float *b, int32_t m) {
  if (n < 1 || m < 1) return __builtin_nanf("");
  float squared = dtw_f32(a, n, b, m, max2(n, m), __builtin_inff());
  return squared < 0 ? __builtin_nanf("") : __builtin_sqrtf(squared);
}

/* Window statistics as in native/windows.py: sums in order over the points of each window. */

EXPORT(window_statistics) void window_statistics(const double *values, int32_t length,
                                                 int32_t count, double *shift, double *scale) {
  for (int32_t position = 0; position < count; position++) {
    const double *window = values + position;
    double total = 0, squares = 0;
    for (int32_t t = 0; t < length; t++) total += window[t] - window[0];
    double mean = total / length;
    for (int32_t t = 0; t < length; t++) {
      double deviation = window[t] - window[0] - mean;
      squares += deviation * deviation;
    }
    double variance = squares / length;
    shift[position] = mean;
    scale[position] = variance > 0 ? 1.0 / __builtin_sqrt(variance) : 0.0;
  }
}

/* The stop flag: a search ends when it is not 0. The host sets the flag from another thread while
 * the search runs, and then discards the incomplete results. */
static volatile uint8_t stop;

EXPORT(stop_place) volatile uint8_t *stop_place(void) { return &stop; }

/* Number of windows, and of matrix rows, between two checks of `stop`. */
enum { CHECK_WINDOWS = 16, CHECK_ROWS = 8 };

/* One history to search; engine.py has the same layout. `count` is the number of candidates. */
struct job {
  const double *values, *shift, *scale; /* `shift` is null if windows are not z-normalised */
  const double *query, *upper, *lower;  /* the query and its envelope, m points each */
  int32_t m, step, band, lcss, count, unused;
  double epsilon;
};

static void load(const struct job *job, int32_t candidate, double *restrict window,
                 int32_t stride) {
  int32_t begin = candidate * job->step;
  const double *values = job->values + begin;
  if (job->shift) {
    double origin = values[0], shift = job->shift[begin], scale = job->scale[begin];
    for (int32_t t = 0; t < job->m; t++) window[t * stride] = (values[t] - origin - shift) * scale;
  } else {
    for (int32_t t = 0; t < job->m; t++) window[t * stride] = values[t];
  }
}

/* Return LB_Keogh of a window, or for LCSS the number of points that cannot match. Two partial sums
 * are allowed, because the order of additions in a bound does not matter. */
static double bound(const struct job *job, const double *window) {
  const v128_t zero = wasm_f64x2_splat(0), one = wasm_f64x2_splat(1);
  const v128_t epsilon = wasm_f64x2_splat(job->epsilon);
  v128_t total = zero;
  for (int32_t t = 0; t < job->m; t += 2) { /* engine.py pads the envelope to an even length */
    v128_t point = wasm_v128_load(window + t);
    v128_t over = wasm_f64x2_sub(point, wasm_v128_load(job->upper + t));
    v128_t under = wasm_f64x2_sub(wasm_v128_load(job->lower + t), point);
    v128_t excess = wasm_f64x2_pmax(zero, wasm_f64x2_pmax(over, under));
    v128_t term = job->lcss ? wasm_v128_and(wasm_f64x2_gt(excess, epsilon), one)
                            : wasm_f64x2_mul(excess, excess);
    total = wasm_f64x2_add(total, term);
  }
  return wasm_f64x2_extract_lane(total, 0) + wasm_f64x2_extract_lane(total, 1);
}

/* Write lower bounds of the costs of all candidates of `count` jobs to `target`; return 0 if memory
 * is exhausted. */
EXPORT(bounds) int32_t bounds(const struct job *jobs, int32_t count, double *target) {
  int32_t m = jobs->m;
  double *window = allocate(((uint64_t)m + 1) * sizeof(double));
  if (!window) return 0;
  window[m] = 0;
  for (const struct job *job = jobs; job < jobs + count; job++)
    for (int32_t candidate = 0; candidate < job->count; candidate++) {
      if (candidate % CHECK_WINDOWS == 0 && stop) goto end;
      load(job, candidate, window, 1);
      *target++ = bound(job, window);
    }
end:
  release(window);
  return 1;
}

/* Comparison of LANES candidates at once, one per lane, in band coordinates as in
 * native/windows_in_lanes.py. */

#define VECTORS 4
#define LANES (2 * VECTORS)
typedef struct { v128_t part[VECTORS]; } vector;

static void fill(vector *cells, int32_t count, double value) {
  for (int32_t cell = 0; cell < count; cell++)
    for (int32_t p = 0; p < VECTORS; p++) cells[cell].part[p] = wasm_f64x2_splat(value);
}

static inline void dtw_cell(vector *here, const vector *point, v128_t value) {
  for (int32_t p = 0; p < VECTORS; p++) {
    v128_t step = wasm_f64x2_sub(value, point->part[p]);
    v128_t best = wasm_f64x2_pmin(here[0].part[p], here[1].part[p]);
    best = wasm_f64x2_pmin(best, here[-1].part[p]);
    here[0].part[p] = wasm_f64x2_add(best, wasm_f64x2_mul(step, step));
  }
}

static inline void lcss_cell(vector *here, const vector *point, v128_t value, v128_t epsilon) {
  const v128_t one = wasm_f64x2_splat(1);
  for (int32_t p = 0; p < VECTORS; p++) {
    v128_t gap = wasm_f64x2_abs(wasm_f64x2_sub(value, point->part[p]));
    v128_t match = wasm_v128_and(wasm_f64x2_le(gap, epsilon), one);
    v128_t longest = wasm_f64x2_add(here[0].part[p], match);
    longest = wasm_f64x2_pmax(longest, here[1].part[p]);
    here[0].part[p] = wasm_f64x2_pmax(longest, here[-1].part[p]);
  }
}

static void compare(const struct job *job, const vector *windows, vector *cells, double *costs) {
  int32_t m = job->m, band = job->band, width = 2 * band + 1;
  v128_t epsilon = wasm_f64x2_splat(job->epsilon);
  fill(cells, width + 2, job->lcss ? 0 : __builtin_inf());
  fill(cells + band + 1, 1, 0);
  for (int32_t i = 0; i < m; i++) {
    if (i % CHECK_ROWS == 0 && stop) return;
    v128_t value = wasm_f64x2_splat(job->query[i]);
    int32_t low = max2(0, band - i), high = min2(width, m + band - i);
    for (int32_t slot = low; slot < high; slot++) {
      const vector *point = windows + i + slot - band;
      if (job->lcss)
        lcss_cell(cells + slot + 1, point, value, epsilon);
      else
        dtw_cell(cells + slot + 1, point, value);
    }
  }
  const double *corner = (const double *)(cells + band + 1);
  for (int32_t lane = 0; lane < LANES; lane++)
    costs[lane] = job->lcss ? m - corner[lane] : corner[lane];
}

/* Write the costs of `count` candidates to `target`; return 0 if memory is exhausted. `chosen`
 * holds their ascending numbers, counted through all jobs. */
EXPORT(costs) int32_t costs(const struct job *jobs, const int32_t *chosen, int32_t count,
                            double *target) {
  vector *windows = allocate((uint64_t)jobs->m * sizeof(vector));
  vector *cells = allocate((2 * (uint64_t)jobs->band + 3) * sizeof(vector));
  if (!windows || !cells) return 0;
  fill(windows, jobs->m, 0);
  const struct job *job = jobs;
  int32_t before = 0; /* number of candidates in the jobs before this job */
  for (int32_t begin = 0; begin < count && !stop; begin += LANES) {
    double lanes[LANES] = {0};
    int32_t filled = min2(LANES, count - begin);
    for (int32_t lane = 0; lane < filled; lane++) {
      while (chosen[begin + lane] >= before + job->count) before += job++->count;
      load(job, chosen[begin + lane] - before, (double *)windows + lane, LANES);
    }
    compare(job, windows, cells, lanes);
    for (int32_t lane = 0; lane < filled; lane++) target[begin + lane] = lanes[lane];
  }
  release(windows);
  return 1;
}
