/* The longest common subsequence of two series, 256 columns of the matrix at a time.
 *
 * native/lcss.py explains the algorithm: rows are long integers with one bit per column, and the
 * columns that match a point are the difference of two prefixes of the sorted second series. Here
 * a merge sort sorts the points. Carries are found by comparison, because WebAssembly has no
 * addition with carry.
 */

enum { WORDS = 4, STRIP = 64 * WORDS, TILE = 1024 };

typedef struct { uint64_t word[WORDS]; } bits;

/* Scratch of one comparison: `low`, `high` and `carries` have one element per row of the matrix,
 * the other arrays hold one tile. */
struct rows {
  /* For each row: the number of points more than epsilon below its value, and the number of points
   * at most epsilon above. */
  int32_t *low, *high;
  int32_t *order, *spare;
  double *ascending;
  bits *prefixes, *before;
  uint8_t *carries;
};

/* Fill `order` with the indices of `count` values by ascending value. */
static void sort(const double *values, int32_t count, int32_t *order, int32_t *spare) {
  for (int32_t place = 0; place < count; place++) order[place] = place;
  for (int32_t width = 1; width < count; width *= 2) {
    for (int32_t begin = 0; begin < count; begin += 2 * width) {
      int32_t middle = min2(count, begin + width), end = min2(count, begin + 2 * width);
      int32_t left = begin, right = middle;
      for (int32_t target = begin; target < end; target++) {
        int32_t first = left < middle && (right >= end || values[order[left]] <= values[order[right]]);
        spare[target] = order[first ? left++ : right++];
      }
    }
    for (int32_t place = 0; place < count; place++) order[place] = spare[place];
  }
}

/* One step of the two binary searches for the rows [begin, end). */
static void halve(const double *a, int32_t begin, int32_t end, int32_t half, double epsilon,
                  const struct rows *rows) {
  const double *last = rows->ascending + half - 1;
  for (int32_t i = begin; i < end; i++) {
    int32_t low = rows->low[i], high = rows->high[i];
    rows->low[i] = low + (a[i] - last[low] > epsilon) * half;
    rows->high[i] = high + (a[i] - last[high] >= -epsilon) * half;
  }
}

static void search(const double *a, int32_t begin, int32_t end, int32_t count, double epsilon,
                   const struct rows *rows) {
  for (int32_t i = begin; i < end; i++) rows->low[i] = rows->high[i] = 0;
  for (; count > 1; count -= count / 2) halve(a, begin, end, count / 2, epsilon, rows);
  halve(a, begin, end, 1, epsilon, rows);
}

/* Fill `table` with the set of the first r indices of `order`, for each r from 0 to `count`. Only
 * indices of the strip at `first` have a bit. */
static void fill_prefixes(const int32_t *order, int32_t count, int32_t first, bits *table) {
  bits set = {{0}};
  for (int32_t rank = 0; rank <= count; rank++) {
    table[rank] = set;
    int32_t place = rank < count ? order[rank] - first : -1;
    for (int32_t w = 0; w < WORDS; w++)
      set.word[w] |= (uint64_t)(place >> 6 == w) << (place & 63);
  }
}

/* Compute the rows [begin, end) of the strip at column `first`, in place in `row`. With `edge` the
 * band does not cover the whole strip, so columns outside of the band are masked. */
static void advance(bits *row, int32_t begin, int32_t end, int32_t edge, int32_t first,
                    int32_t band, const struct rows *rows) {
  bits here = *row;
  for (int32_t i = begin; i < end; i++) {
    const bits *low = rows->prefixes + rows->low[i], *high = rows->prefixes + rows->high[i];
    int32_t left = min2(max2(i - band - first, 0), STRIP);
    int32_t right = min2(max2(i + band + 1 - first, 0), STRIP);
    uint64_t carry = rows->carries[i];
    for (int32_t w = 0; w < WORDS; w++) {
      uint64_t old = here.word[w], match = old & (low->word[w] ^ high->word[w]);
      if (edge) match &= rows->before[left].word[w] ^ rows->before[right].word[w];
      uint64_t sum = old + match, total = sum + carry;
      carry = (sum < old) | (total < sum);
      here.word[w] = total | (old ^ match);
    }
    rows->carries[i] = (uint8_t)carry;
  }
  *row = here;
}

/* Return how much the length grows in the `width` columns from `first`. */
static int32_t strip(int32_t first, int32_t width, int32_t n, int32_t band,
                     const struct rows *rows) {
  int32_t begin = max2(0, first - band), end = min2(n, first + width + band);
  /* Rows from `inner` to `outer` have the whole strip in their band. */
  int32_t inner = max2(begin, min2(end, first + width - 1 - band));
  int32_t outer = max2(inner, min2(end, first + band + 1));
  bits row = {{~0ull, ~0ull, ~0ull, ~0ull}};
  advance(&row, begin, inner, 1, first, band, rows);
  advance(&row, inner, outer, 0, first, band, rows);
  advance(&row, outer, end, 1, first, band, rows);
  int32_t gained = 0;
  for (int32_t w = 0; w < WORDS; w++) gained += __builtin_popcountll(~row.word[w]);
  return gained;
}

/* Allocate the scratch arrays for `n` rows and tiles of `tile` points; return 0 if memory is
 * exhausted. */
static int32_t make_room(struct rows *rows, int32_t n, int32_t tile) {
  rows->low = allocate((uint64_t)n * sizeof(int32_t));
  rows->high = allocate((uint64_t)n * sizeof(int32_t));
  rows->carries = allocate((uint64_t)n);
  rows->order = allocate((uint64_t)max2(tile, STRIP) * sizeof(int32_t));
  rows->spare = allocate((uint64_t)tile * sizeof(int32_t));
  rows->ascending = allocate((uint64_t)tile * sizeof(double));
  rows->prefixes = allocate(((uint64_t)tile + 1) * sizeof(bits));
  rows->before = allocate((STRIP + 1) * sizeof(bits));
  return rows->low && rows->high && rows->carries && rows->order && rows->spare &&
         rows->ascending && rows->prefixes && rows->before;
}

/* Return the length of the longest common subsequence, or -1 if memory is exhausted. The result
 * equals that of lcss_length in native/lcss.py. */
static int32_t lcss_length(const double *a, int32_t n, const double *b, int32_t m,
                           double epsilon, int32_t band) {
  struct rows rows;
  void *scratch = allocate(0);
  int32_t length = -1;
  if (!make_room(&rows, n, min2(m, TILE))) goto done;
  for (int32_t i = 0; i < n; i++) rows.carries[i] = 0;
  for (int32_t place = 0; place < STRIP; place++) rows.order[place] = place;
  fill_prefixes(rows.order, STRIP, 0, rows.before);
  length = 0;
  for (int32_t begin = 0; begin < m; begin += TILE) {
    int32_t count = min2(TILE, m - begin);
    sort(b + begin, count, rows.order, rows.spare);
    for (int32_t rank = 0; rank < count; rank++)
      rows.ascending[rank] = b[begin + rows.order[rank]];
    search(a, max2(0, begin - band), min2(n, begin + count + band), count, epsilon, &rows);
    for (int32_t first = 0; first < count; first += STRIP) {
      fill_prefixes(rows.order, count, first, rows.prefixes);
      length += strip(begin + first, min2(STRIP, count - first), n, band, &rows);
    }
  }
done:
  release(scratch);
  return length;
}
