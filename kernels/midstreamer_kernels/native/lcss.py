"""The longest common subsequence (LCSS) by a bit-parallel algorithm, 256 matrix columns at once.

The lengths in a row of the LCSS matrix grow by 0 or 1 from column to column. So a row is stored as
a long integer with one bit per column, which is 0 where the length grows. Let M have the bits of
the columns that match point i. Then the next row is

    u = row & M;    row = (row + u) | (row ^ u)

(Crochemore et al. 2001, Hyyro 2004), where the carries of the sum run along the row. The matrix is
computed in strips of four words. The newest row of a strip stays in registers. The carry out of
each row of a strip is stored in memory for the next strip.

M is found without comparing pairs of points. In sorted order, the points of `b` that match ``a[i]``
are neighbours, because rounding preserves order. The first of them is the smallest point that is at
most epsilon below ``a[i]``, the last is the greatest point that is at most epsilon above. For each
``a[i]`` two binary searches count the points of `b` before the first match (low) and up to the last
match (high). A table of prefixes holds in P[r] the bits of the r smallest points of `b`, so M is
``P[high] ^ P[low]``. The result is exact, because the searches evaluate only
``a[i] - b[j] > epsilon`` and ``a[i] - b[j] >= -epsilon`` in float64.

With a band, only the bits of the columns within the band are kept. They are the XOR of two masks:
one has the bits of all columns before the end of the band, the other those before its begin.

O((n + m) log m + n * m / 256) time, O(n + m) memory. With a band, n * band / 256 takes the place of
n * m / 256. A pair of 1,000 points takes 45 microseconds with AVX2: 14 to search, 15 for the rows,
8 to sort, 6 for the tables. Computing M by comparing all pairs of points takes longer than all of
this, even in float32 vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.bit_intrinsics import (
    WORD_BITS,
    WORDS,
    add_words,
    chosen,
    count_ones,
)
from midstreamer_kernels.native.jit_decorators import jit

# Number of columns of a strip. The bits of the newest row of a strip fit the registers.
STRIP = WORDS * WORD_BITS
# Number of columns in a tile, which is several strips. Each column belongs to one point of `b`. The
# points of a tile are sorted together. Then each strip of the tile gets a table. Entry r of the
# table has the bits of the strip's columns that belong to the r smallest points of the tile. The
# table takes 32 KiB, about as much as an L1 cache holds.
TILE = 1024

_ZERO, _ONE, _TWO, _THREE = (np.uint64(number) for number in range(4))
_ALL = np.uint64(2**WORD_BITS - 1)

# Masks for the band, one for each number r from 0 to `STRIP`. In mask r, the bits of the first r
# columns of a strip are 1 and all other bits are 0. `_BEFORE` stores each mask as four words.
_LINES = np.tri(STRIP + 1, STRIP, -1, dtype=bool)
_BEFORE = np.packbits(_LINES, axis=1, bitorder="little").view("<u8").astype(np.uint64).ravel()


@jit
def _pack(patterns: Any, keys: Any) -> None:
    # Convert the bits of floats to integers of the same order; the bits of negative floats are
    # inverted. The lowest bits of each integer are replaced by the value's index within the tile.
    for place in range(patterns.size):
        pattern = patterns[place]
        pattern ^= (pattern >> 63) & 0x7FFFFFFFFFFFFFFF
        keys[place] = (pattern & ~(TILE - 1)) | (place & (TILE - 1))


def ordered(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the keys by which `common_lengths` reads `values` in ascending order, shape (m,).

    Every tile of `TILE` values is sorted separately. The lowest bits of a key are the index of the
    value within its tile; the other bits are the upper bits of the value. Values that differ by
    less than 2**-42 of their size may therefore be in the wrong order, which `common_lengths`
    corrects. numpy sorts integers with SIMD instructions, three times as fast as `numpy.argsort`.
    """
    keys = np.empty(values.size, np.int64)
    _pack(values.view(np.int64), keys)
    for first in range(0, values.size, TILE):
        keys[first : first + TILE].sort()
    return keys


@jit
def _unpack(values: Any, keys: Any, first: int, order: Any, ascending: Any) -> None:
    """Fill `order` and `ascending` with indices and values of the tile at `first`, sorted by value.

    The indices in `order` count from `first`.
    """
    # Insertion sort, which takes one comparison per value if the keys are in order already.
    for rank in range(ascending.size):
        place = keys[first + rank] & (TILE - 1)
        value, target = values[first + place], rank
        while target > 0 and ascending[target - 1] > value:
            ascending[target], order[target] = ascending[target - 1], order[target - 1]
            target -= 1
        ascending[target], order[target] = value, place


@jit
def _halve(rows: Any, ascending: Any, half: Any, epsilon: float, low: Any, high: Any) -> None:
    # Make one step of the binary searches for all rows. The rows are independent, so the processor
    # searches for many rows at once. Searching row by row would take twice as long.
    before = half - _ONE
    for i in range(rows.size):
        value, under, upto = rows[i], np.uint64(low[i]), np.uint64(high[i])
        low[i] = chosen(value - ascending[under + before] > epsilon, under + half, under)
        high[i] = chosen(value - ascending[upto + before] >= -epsilon, upto + half, upto)


@jit
def _ranks(rows: Any, ascending: Any, epsilon: float, low: Any, high: Any) -> None:
    """Find the points of `ascending` that match each value in `rows`; fill `low` and `high`.

    The points ``ascending[low[i] : high[i]]`` match ``rows[i]``. `low` is the number of points p
    that are too small to match: ``value - p > epsilon``. `high` is the number of points that are
    not too great to match: ``value - p >= -epsilon``.
    """
    for i in range(rows.size):
        low[i] = high[i] = 0
    left = np.uint64(ascending.size)
    while left > _ONE:
        half = left >> _ONE
        _halve(rows, ascending, half, epsilon, low, high)
        left -= half
    _halve(rows, ascending, left, epsilon, low, high)


@jit
def _prefixes(order: Any, first: int, table: Any) -> None:
    """Fill the table of prefixes for the strip of columns that begins at `first`.

    Each column belongs to one point. Entry r has the bits of the columns that belong to the r
    smallest points. An entry is four words, with one bit for each column of the strip. `order`
    holds the column numbers of the points in ascending order of the points.
    """
    set0 = set1 = set2 = set3 = _ZERO
    for rank in range(order.size + 1):
        table[4 * rank], table[4 * rank + 1] = set0, set1
        table[4 * rank + 2], table[4 * rank + 3] = set2, set3
        if rank < order.size:
            place = order[rank] - first
            word, bit = place >> 6, _ONE << np.uint64(place & 63)
            set0 |= bit if word == 0 else _ZERO
            set1 |= bit if word == 1 else _ZERO
            set2 |= bit if word == 2 else _ZERO
            set3 |= bit if word == 3 else _ZERO


class _Strip(NamedTuple):
    """A strip of columns of the LCSS matrix, and the arrays that its rows read and write."""

    first: int
    """The first column of the strip."""
    band: int
    """Points match only when ``|i - j| <= band``."""
    low: Any
    """For each row, how many points of `b` are too small to match the row's point.

    Only points of the strip's tile are counted, which is up to `TILE` columns. Shape (n,), uint32.
    """
    high: Any
    """For each row, how many points of `b` are not too great to match the row's point.

    They are counted like the points of `low`. So if the points of the tile are sorted by value,
    those with the indices [low, high) match. If none matches, `high` equals `low`. Shape (n,),
    uint32.
    """
    prefixes: Any
    """The table that `_prefixes` fills: entry r is four words, with the bits of the strip's columns
    that belong to the r smallest points of the tile; uint64."""
    carries: Any
    """The carry bit of each row, which goes from strip to strip; shape (n,), uint8.

    In each row a strip adds the carry bit that the previous strip stored here. Then it stores its
    own carry bit here, for the next strip.
    """
    row: Any
    """The newest row of the strip as bits, shape (WORDS,), uint64."""


@jit
def _advance(begin: int, end: int, edge: bool, strip: Any) -> None:
    """Compute the rows [begin, end) of a strip in place.

    `edge` says that in these rows columns of the strip may lie outside of the band. Then those
    columns are masked. Without `edge` all columns are inside, and no mask is needed.
    """
    first, band, row = strip.first, strip.band, strip.row
    low, high, prefixes, carries = strip.low, strip.high, strip.prefixes, strip.carries
    row0, row1, row2, row3 = row[0], row[1], row[2], row[3]
    for i in range(np.uint64(begin), np.uint64(end)):
        p, q = np.uint64(low[i]) << _TWO, np.uint64(high[i]) << _TWO
        u0 = row0 & (prefixes[p] ^ prefixes[q])
        u1 = row1 & (prefixes[p + _ONE] ^ prefixes[q + _ONE])
        u2 = row2 & (prefixes[p + _TWO] ^ prefixes[q + _TWO])
        u3 = row3 & (prefixes[p + _THREE] ^ prefixes[q + _THREE])
        if edge:
            middle: Any = np.int64(i) - first
            p = np.uint64(min(max(middle - band, 0), STRIP)) << _TWO
            q = np.uint64(min(max(middle + band + 1, 0), STRIP)) << _TWO
            u0 &= _BEFORE[p] ^ _BEFORE[q]
            u1 &= _BEFORE[p + _ONE] ^ _BEFORE[q + _ONE]
            u2 &= _BEFORE[p + _TWO] ^ _BEFORE[q + _TWO]
            u3 &= _BEFORE[p + _THREE] ^ _BEFORE[q + _THREE]
        rest0, rest1, rest2, rest3 = row0 ^ u0, row1 ^ u1, row2 ^ u2, row3 ^ u3
        row0, row1, row2, row3, carry = add_words(
            (row0, row1, row2, row3), (u0, u1, u2, u3), np.uint64(carries[i])
        )
        row0, row1, row2, row3 = row0 | rest0, row1 | rest1, row2 | rest2, row3 | rest3
        carries[i] = carry
    row[0], row[1], row[2], row[3] = row0, row1, row2, row3


@jit
def _gained(width: int, strip: Any) -> int:
    """Return how much the LCSS length grows in the first `width` columns of a strip.

    Only the rows whose band overlaps the strip are computed. In the rows above them no column of
    the strip has had a match yet, so all bits of the strip are still 1. The rows below them have no
    match in the strip either, so they do not change its bits.
    """
    first, band, row = strip.first, strip.band, strip.row
    begin, end = max(0, first - band), min(strip.low.size, first + width + band)
    # In the rows from `inner` to `outer` the whole strip is within the band.
    inner = max(begin, min(end, first + width - 1 - band))
    outer = max(inner, min(end, first + band + 1))
    for word in range(WORDS):
        row[word] = _ALL
    for start, stop, edge in ((begin, inner, True), (inner, outer, False), (outer, end, True)):
        _advance(start, stop, edge, strip)
    gained = 0
    for word in range(WORDS):
        gained += count_ones(~row[word])
    return gained


@jit
def common_lengths(rows: Any, b: Any, keys: Any, epsilon: float, band: int, lengths: Any) -> None:
    """Fill `lengths` with the LCSS length of each row with `b`, as `lcss_length` returns it.

    Parameters
    ----------
    rows : ndarray, shape (k, n), float64
    b : ndarray, shape (m,), float64
    keys : ndarray, shape (m,), int64
        The result of ``ordered(b)``.
    epsilon : float
        Greatest difference of two points that match.
    band : int
        Points match only when ``|i - j| <= band``.
    lengths : ndarray, shape (k,), int64
    """
    n, m = rows.shape[1], b.size
    low, high = np.empty(rows.shape, np.uint32), np.empty(rows.shape, np.uint32)
    carries = np.zeros(rows.shape, np.uint8)
    order, ascending = np.empty(min(m, TILE), np.int64), np.empty(min(m, TILE))
    prefixes, row = np.empty(WORDS * (order.size + 1), np.uint64), np.empty(WORDS, np.uint64)
    for k in range(lengths.size):
        lengths[k] = 0
    for begin in range(0, m, TILE):
        end = min(m, begin + TILE)
        places, points = order[: end - begin], ascending[: end - begin]
        _unpack(b, keys, begin, places, points)
        upper, lower = max(0, begin - band), min(n, end + band)
        for k in range(lengths.size):
            within = rows[k, upper:lower]
            _ranks(within, points, epsilon, low[k, upper:lower], high[k, upper:lower])
        for first in range(begin, end, STRIP):
            _prefixes(places, first - begin, prefixes)
            width = min(STRIP, end - first)
            for k in range(lengths.size):
                strip = _Strip(first, band, low[k], high[k], prefixes, carries[k], row)
                lengths[k] += _gained(width, strip)


def lcss_length(a: NDArray[np.float64], b: NDArray[np.float64], epsilon: float, band: int) -> int:
    """Return the length of the longest common subsequence of `a`, shape (n,), and `b`, shape (m,).

    Points match when ``|a[i] - b[j]| <= epsilon`` and ``|i - j| <= band``. `band` is at least
    ``|n - m|``.
    """
    lengths = np.empty(1, np.int64)
    common_lengths(a.reshape(1, -1), b, ordered(b), epsilon, band, lengths)
    return int(lengths[0])
