/* Two series compared whole, for one type of number: include with NUMBER and NAME(x) defined.
 *
 * The walk over anti-diagonals, the order of operations and the looks at the limit are those of
 * native/pairs.py; the inner loop carries no value, so the compiler turns it into vector code.
 */

static void NAME(advance)(const NUMBER *older, const NUMBER *newer, const NUMBER *rows,
                          const NUMBER *columns, NUMBER *restrict target, int32_t count) {
  for (int32_t cell = 0; cell < count; cell++) {
    NUMBER step = rows[cell] - columns[cell];
    NUMBER best = older[cell];
    best = newer[cell] < best ? newer[cell] : best;
    best = newer[cell + 1] < best ? newer[cell + 1] : best;
    target[cell + 1] = best + step * step;
  }
}

static NUMBER NAME(least)(const NUMBER *values, int32_t count) {
  NUMBER least = values[0];
  for (int32_t at = 1; at < count; at++) least = values[at] < least ? values[at] : least;
  return least;
}

/* The least summed squared difference with |i - j| <= band; infinity when surely above `limit`,
 * and -1 when there is no memory for three diagonals. */
EXPORT(NAME(dtw)) NUMBER NAME(dtw)(const NUMBER *a, int32_t n, const NUMBER *b, int32_t m,
                                   int32_t band, NUMBER limit) {
  const NUMBER infinity = (NUMBER)__builtin_inf();
  NUMBER *scratch = allocate((uint64_t)(3 * ((uint64_t)n + 2) + m) * sizeof(NUMBER));
  if (!scratch) return -1;
  NUMBER *before = scratch, *last = before + n + 2, *fresh = last + n + 2;
  NUMBER *reversed = fresh + n + 2;
  for (int32_t at = 0; at < n + 2; at++) before[at] = last[at] = fresh[at] = infinity;
  for (int32_t at = 0; at < m; at++) reversed[m - 1 - at] = b[at];
  before[0] = 0;
  NUMBER result = infinity, previous = infinity;
  for (int32_t s = 0; s < n + m - 1; s++) {
    int32_t low = max3(0, s - m + 1, (s - band + 1) >> 1);
    int32_t high = min3(n - 1, s, (s + band) >> 1);
    fresh[low] = fresh[high + 2] = infinity;
    NAME(advance)(before + low, last + low, a + low, reversed + m - 1 - s + low, fresh + low,
                  high - low + 1);
    if (s % 64 >= 62) {
      NUMBER newest = NAME(least)(fresh + low, high - low + 2);
      if (s % 64 == 63 && (newest < previous ? newest : previous) > limit) goto done;
      previous = newest;
    }
    NUMBER *spare = before;
    before = last, last = fresh, fresh = spare;
    if (s == 0) fresh[0] = infinity;
  }
  result = last[n];
done:
  release(scratch);
  return result;
}
