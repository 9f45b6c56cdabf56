"""The warping path of two series: the pairs of points along the least DTW cost.

`emit.anti_diagonal` computes the anti-diagonals of the cost matrix forward and stores two bits per
cell. The path follows these bits backwards from the last cell. If the bits of a long pair would
take more than `BYTES_MAX`, they are stored for only one block of anti-diagonals at a time. The
forward pass then keeps the cells at the start of every block, and each block is computed a second
time when the path reaches it. That takes twice the time, and the memory of a few series instead of
a matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.emit.anti_diagonal import LANES, emit_turns
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.native.emitted import emitted_like
from midstreamer_kernels.native.jit_decorators import jit

BYTES_MAX = 2**26  # greatest size in bytes of each of the two arrays with one bit per cell
MATRICES = 3  # number of anti-diagonals in `cells`: two that are read, one that is written

_turns = emitted_like(
    emit_turns, (Shape(FLOAT32, LANES, 1), Shape(FLOAT64, LANES, 1, integers=False))
)


@jit
def _first_row(s: int, m: int, band: int) -> int:
    """Return the first row i of the anti-diagonal ``s = i + j`` that is inside matrix and band."""
    return max(0, s - m + 1, (s - band + 1) // 2)


@jit
def _walk(
    begin: int, end: int, band: int, rows: Any, columns: Any, cells: Any, straight: Any,
    upward: Any,
) -> None:  # fmt: skip
    """Compute the anti-diagonals [begin, end), and two bits per cell that tell the step to it.

    Parameters
    ----------
    rows, columns : ndarray, shape (n + LANES,) and (m + LANES,), float32 or float64, the same type
        The series, padded. `columns` is the second one reversed: its point j is at index
        ``m - 1 - j``. In row i of anti-diagonal s, j is ``s - i``.
    cells : ndarray, shape (MATRICES, n + 2 + LANES), of the same type
        Anti-diagonal s is in ``cells[s % 3]``, with the cell of row i at index ``i + 1``.
    straight, upward : ndarray, shape (diagonals, bytes), uint8
        Receive one bit per cell each. Row r has the bits of anti-diagonal ``begin + r``. The bit in
        `straight` is 1 if the path to the cell comes from the diagonal neighbour. If it is 0, the
        bit in `upward` is 1 if the path comes from the cell above, and 0 if from the left.
    """
    n, m, item_bytes = rows.size - LANES, columns.size - LANES, rows.itemsize
    cells_bytes, bits_bytes = item_bytes * cells.shape[1], straight.shape[1]
    for s in range(begin, end):
        low = _first_row(s, m, band)
        count = min(n - 1, s, (s + band) // 2) - low + 1
        slot, bits = low * item_bytes, (s - begin) * bits_bytes
        lines = cells.ctypes.data + slot
        _turns(
            rows,
            lines + (s + 1) % MATRICES * cells_bytes, lines + (s + 2) % MATRICES * cells_bytes,
            rows.ctypes.data + slot, columns.ctypes.data + (m - 1 - s) * item_bytes + slot,
            lines + s % MATRICES * cells_bytes,
            straight.ctypes.data + bits, upward.ctypes.data + bits, count,
        )  # fmt: skip


@jit
def _follow(begin: int, m: int, band: int, straight: Any, upward: Any, path: Any, left: int) -> int:
    """Extend the path backwards through the anti-diagonals down to `begin`.

    ``path[left:]`` is the path so far; the new value of `left` is returned.
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
    """Return the squared DTW distance of `a` and `b`, and the warping path that has this cost.

    Parameters
    ----------
    a, b : ndarray, shape (n,) and (m,), float32 or float64, the same type
    band : int
        Half-width of the warping band in points, at least ``|n - m|``.
    bytes_max : int
        Greatest size in bytes of each of two arrays. They store one bit per cell of the cost
        matrix, and both bits of a cell tell the step to it.

    Returns
    -------
    squared : float
        The squared DTW distance.
    path : ndarray, shape (length, 2), int64
        Pairs (i, j) from (0, 0) to (n - 1, m - 1).
    """
    n, m = a.size, b.size
    rows, columns = _padded(a), _padded(b[::-1])
    cells = np.full((MATRICES, n + 2 + LANES), np.inf, a.dtype)
    cells[1, 0] = 0  # cost of the cell (-1, -1) on anti-diagonal -2, where every path begins
    diagonals, stride = n + m - 1, -(-min(n, m, band + 1) // LANES)
    size = min(diagonals, max(1, bytes_max // stride))
    straight, upward = (np.empty((size, stride), np.uint8) for _ in range(2))

    def walk(begin: int) -> None:
        end = min(begin + size, diagonals)
        _walk(begin, end, band, rows, columns, cells, straight, upward)

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
