"""Two series compared whole: dynamic time warping and the longest common subsequence.

DTW walks the anti-diagonals of the cost matrix, since the cells of one diagonal do not depend on
each other: the inner loop has no carried value and the compiler turns it into vector code, with
AVX2 three (float64) to five times (float32) as fast as row by row. Each cell is
``(a[i] - b[j])**2 + min(diagonal, up, left)``, one multiplication and one addition however the
cells are visited, hence the same bits as `reference.dtw` and as the WebAssembly module, in float32
as in float64.

Deliberately absent: the warping path, and any check of the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.native.compiling import jit

CHECK_EVERY = 64  # diagonals between two looks at the cutoff: a look costs about one diagonal


@jit
def _advance(older: Any, newer: Any, rows: Any, columns: Any, target: Any) -> None:
    # One diagonal. Conditional expressions become vector minima; the builtin `min` does not.
    # `target` may be `older`: each cell reads its own place before it writes it.
    for cell in range(rows.size):
        step = rows[cell] - columns[cell]
        best = older[cell]
        best = newer[cell] if newer[cell] < best else best
        best = newer[cell + 1] if newer[cell + 1] < best else best
        target[cell + 1] = best + step * step


@jit(reorder_sums=True)
def _least(cells: Any) -> Any:
    # A minimum is the same in any order, and nothing here is NaN. The method `min` compiles longer.
    least = cells[0]
    for cell in range(1, cells.size):
        least = cells[cell] if cells[cell] < least else least
    return least


@jit
def dtw_squared(a: Any, b: Any, band: int, limit: float) -> Any:
    """Return the least summed squared difference of `a` and `b`, or infinity above `limit`.

    Parameters
    ----------
    a, b : ndarray, shape (n,) and (m,), float32 or float64, the same type
    band : int
        ``|i - j| <= band``; at least ``|n - m|``.
    limit : float
        Squared distance; compared only now and then, so a result above it may still be returned.

    Notes
    -----
    Diagonal ``s = i + j``; slot ``i + 1`` of a buffer holds the cell of row ``i``. The cell above,
    ``(i-1, j)``, is slot ``i`` of the last diagonal, the one to the left its slot ``i + 1``, and
    ``(i-1, j-1)`` is slot ``i`` of the diagonal before. O(n * band) time, O(n + m) memory.
    """
    n, m = a.size, b.size
    infinity = a.dtype.type(np.inf)
    reversed_b = b[::-1].copy()
    before = np.empty(n + 2, a.dtype)  # diagonal s - 2
    last = np.empty(n + 2, a.dtype)  # diagonal s - 1
    fresh = np.empty(n + 2, a.dtype)  # diagonal s
    for slot in range(n + 2):
        before[slot] = last[slot] = fresh[slot] = infinity
    before[0] = 0  # the cell (-1, -1): where every path begins
    previous = infinity
    for s in range(n + m - 1):
        # j = s - i lies in [0, m) and within the band.
        low = max(0, s - m + 1, (s - band + 1) // 2)
        high = min(n - 1, s, (s + band) // 2)
        fresh[low] = infinity  # the slots beside the diagonal are outside of band or matrix
        fresh[high + 2] = infinity
        if low <= high:
            first = m - 1 - s + low  # reversed_b[first] is b[s - low]
            count = high - low + 1
            _advance(
                before[low : low + count],
                last[low : low + count + 1],
                a[low : low + count],
                reversed_b[first : first + count],
                fresh[low : low + count + 1],
            )
        if s % CHECK_EVERY >= CHECK_EVERY - 2:
            # A path crosses every diagonal or the one before it: the least of two decides.
            newest = _least(fresh[low : high + 2])
            if s % CHECK_EVERY == CHECK_EVERY - 1 and min(newest, previous) > limit:
                return infinity
            previous = newest
        before, last, fresh = last, fresh, before
        if s == 0:
            fresh[0] = infinity
    return last[n]


@jit
def lcss_length(a: Any, b: Any, epsilon: float, band: int) -> int:
    """Return the length of the longest common subsequence of `a` and `b`.

    Points match when ``|a[i] - b[j]| <= epsilon`` and ``|i - j| <= band``. Cells outside of the
    band count as zero, which is exact because ``(i-1, j-1)`` always lies in the band with
    ``(i, j)`` and a longer prefix never has a shorter subsequence. O(n * band) time, O(m) memory.
    """
    n, m = a.size, b.size
    above = np.zeros(m + 1, np.int64)
    row = np.zeros(m + 1, np.int64)
    for i in range(n):
        low = max(0, i - band)
        high = min(m, i + band + 1)
        row[low] = 0
        for j in range(low, high):
            longest = above[j] + (1 if abs(a[i] - b[j]) <= epsilon else 0)
            longest = max(longest, row[j])
            if j < i + band:  # else the cell above is outside of the band
                longest = max(longest, above[j + 1])
            row[j + 1] = longest
        above, row = row, above
    return int(above[m])
