"""The warping path: which points of two series are paired along the least cost.

The anti-diagonals of the cost matrix are walked forward by `emit.turns`, which leaves two bits for
each cell, and the bits are followed back from the last cell. Where a long pair's bits would take
more than `BYTES_MAX`, they are kept for one block of diagonals only: the forward walk remembers the
cells at the start of every block, and each block is walked once more when the path gets there.
Twice the time then, and memory of a few series instead of a matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.emit.turns import LANES, emit_turns
from midstreamer_kernels.emit.values import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.emitted import emitted

BYTES_MAX = 2**26  # of one of the two kinds of bits
MATRICES = 3  # diagonals of cells: two that are read, one that is written

_turns_float32 = emitted(emit_turns, Shape(FLOAT32, LANES, 1))
_turns_float64 = emitted(emit_turns, Shape(FLOAT64, LANES, 1, integers=False))


@jit
def _first_row(s: int, m: int, band: int) -> int:
    """Return the first row of diagonal ``s = i + j``."""
    return max(0, s - m + 1, (s - band + 1) // 2)


@jit
def _walk(
    begin: int,
    end: int,
    n: int,
    m: int,
    band: int,
    item_bytes: int,
    rows: int,
    columns: int,
    cells: int,
    cells_bytes: int,
    straight: int,
    upward: int,
    bits_bytes: int,
) -> None:
    """Compute the diagonals [begin, end) and their bits; arrays are given by address.

    Slot ``i + 1`` of a diagonal holds the cell of row i; diagonal s lies in ``cells[s % 3]``.
    `columns` is the second series backwards: point ``s - i`` stands at ``m - 1 - s + i``.
    """
    for s in range(begin, end):
        low = _first_row(s, m, band)
        count = min(n - 1, s, (s + band) // 2) - low + 1
        slot = low * item_bytes
        older = cells + (s + 1) % MATRICES * cells_bytes + slot
        newer = cells + (s + 2) % MATRICES * cells_bytes + slot
        target = cells + s % MATRICES * cells_bytes + slot
        row, column = rows + slot, columns + (m - 1 - s) * item_bytes + slot
        bits = (s - begin) * bits_bytes
        if item_bytes == 4:
            _turns_float32(older, newer, row, column, target, straight + bits, upward + bits, count)
        else:
            _turns_float64(older, newer, row, column, target, straight + bits, upward + bits, count)


@jit
def _follow(begin: int, m: int, band: int, straight: Any, upward: Any, path: Any, left: int) -> int:
    """Follow the bits back through the diagonals from `begin` on.

    ``path[left:]`` is the path so far; return the same for the path as far as it got.
    """
    i, j = path[left, 0], path[left, 1]
    while i + j >= begin and i + j > 0:
        s = i + j
        cell = i - _first_row(s, m, band)
        byte, bit = cell // LANES, cell % LANES
        if straight[s - begin, byte] >> bit & 1:
            i, j = i - 1, j - 1
        elif upward[s - begin, byte] >> bit & 1:
            i -= 1
        else:
            j -= 1
        left -= 1
        path[left, 0], path[left, 1] = i, j
    return left


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([values, np.zeros(LANES, values.dtype)])


def least_path(
    a: NDArray[Any], b: NDArray[Any], band: int, bytes_max: int = BYTES_MAX
) -> tuple[float, NDArray[np.int64]]:
    """Return the least summed squared difference of `a` and `b`, and the path that has it.

    Parameters
    ----------
    a, b : ndarray, shape (n,) and (m,), float32 or float64, the same type
    band : int
        At least ``|n - m|``.
    bytes_max : int
        Of the bits of one kind that are kept at once.

    Returns
    -------
    squared : float
    path : ndarray, shape (length, 2), int64
        Pairs (i, j) from (0, 0) to (n - 1, m - 1).
    """
    n, m = a.size, b.size
    rows, columns = _padded(a), _padded(b[::-1])
    cells = np.full((MATRICES, n + 2 + LANES), np.inf, a.dtype)
    cells[1, 0] = 0  # the cell (-1, -1), where every path begins, lies on diagonal -2
    diagonals, stride = n + m - 1, -(-min(n, m, band + 1) // LANES)
    size = min(diagonals, max(1, bytes_max // stride))
    straight, upward = (np.empty((size, stride), np.uint8) for _ in range(2))

    def walk(begin: int) -> None:
        _walk(
            begin, min(begin + size, diagonals), n, m, band, a.itemsize, rows.ctypes.data,
            columns.ctypes.data, cells.ctypes.data, cells.strides[0], straight.ctypes.data,
            upward.ctypes.data, stride,
        )  # fmt: skip

    starts = []
    for begin in range(0, diagonals, size):
        starts.append(cells.copy())
        walk(begin)
    squared = float(cells[(diagonals - 1) % MATRICES, n])
    path = np.empty((diagonals, 2), np.int64)
    left = diagonals - 1
    path[left] = n - 1, m - 1
    for begin in reversed(range(0, diagonals, size)):
        start = starts.pop()
        if begin + size < diagonals:
            cells[:] = start
            walk(begin)
        left = _follow(begin, m, band, straight, upward, path, left)
    return squared, path[left:].copy()
