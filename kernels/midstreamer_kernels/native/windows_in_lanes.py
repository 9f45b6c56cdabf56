"""Comparison of one query with many windows at once: window l is in lane l of the SIMD vectors.

`dtw_block` computes DTW in float32 or float64, the type of its arrays, with the loops of
`emit.dtw_in_lanes`. A block of windows is a flat array of ``(m + 2 * PADDING) * lane_count(array)``
elements: point t of lane l is at ``(PADDING + t) * lanes + l``, and the padding is infinity.
`empty_block` creates a block. A lane without a window may hold any values except NaN; infinities
give an infinite cost.

Every lane computes exactly the cells of `reference.dtw`. So the cost of a window is a pure function
of the window and the query, and does not depend on the windows in the other lanes.

`lcss_lanes` computes the LCSS of `LANES` float64 windows, cell by cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.emit.cancel_flag import emit_stopped
from midstreamer_kernels.emit.dtw_in_lanes import emit_lanes
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64, Number, Shape
from midstreamer_kernels.native import simd_registers
from midstreamer_kernels.native.emitted import emitted, emitted_like
from midstreamer_kernels.native.jit_decorators import inlined, jit
from midstreamer_kernels.native.lcss_cell import LANES, lcss_cell

ROWS = 2  # matrix rows computed together; more would need more registers
PADDING = ROWS - 1  # points of padding at either end of a window
CHECK_ROWS = 16  # rows of the LCSS matrix between two checks of the stop flag


def shape_for(number: Number) -> Shape:
    """Return the shape for `emit.dtw_in_lanes` on this processor.

    A vector fills two registers. Two rows of the matrix (`ROWS`) are computed together, one vector
    of cells in each row. So the new cells fill four registers. About twelve registers are in use in
    total.
    """
    offered = simd_registers.instruction_set()
    return Shape(number, 2 * offered.lanes(number), ROWS, offered.integers(number))


_SHAPES = (shape_for(FLOAT32), shape_for(FLOAT64))
LANES_32, LANES_64 = (shape.lanes for shape in _SHAPES)
_compare = emitted_like(emit_lanes, _SHAPES)
_stopped = emitted(emit_stopped, _SHAPES[0])


@inlined
def lane_count(like: Any) -> int:
    """Return the number of windows compared at once, for the number type of the array `like`."""
    return LANES_32 if like.itemsize == 4 else LANES_64


@inlined
def empty_block(like: Any, m: int) -> Any:
    """Return a block for windows of `m` points, of the type of `like`, filled with infinity."""
    return np.full((m + 2 * PADDING) * lane_count(like), np.inf, like.dtype)


@inlined
def block_cells(like: Any, band: int) -> Any:
    """Return the scratch cells that `dtw_block` needs for `band`, of the type of `like`."""
    return np.empty((2 * band + 2) * lane_count(like), like.dtype)


@jit
def dtw_block(
    query: Any, block: Any, band: int, limit: float, cells: Any, costs: Any, stop: int = 0
) -> None:
    """Write the squared DTW distance between `query` and the window of each lane to `costs`.

    Parameters
    ----------
    query : ndarray, shape (n,), float32 or float64; all arrays have the same type
    block : ndarray, flat, from `empty_block`
        Windows of m points; m may differ from n.
    band : int
        Half-width of the warping band in points, at least ``|n - m|``.
    limit : float
        Squared distance. If every lane exceeds it, the comparison may stop early (early
        abandoning), and all costs are infinite.
    cells : ndarray, from `block_cells`
        Scratch memory.
    costs : ndarray, shape (lane_count(query),)
    stop : int
        Address of a `Stop` flag, 0 for none. If the flag is set, the comparison ends, and all costs
        are infinite.
    """
    m = block.size // lane_count(query) - 2 * PADDING
    _compare(
        query, query.ctypes.data, query.size, block.ctypes.data, m, band, limit,
        cells.ctypes.data, costs.ctypes.data, stop,
    )  # fmt: skip


@jit
def scratch(band: int) -> Any:
    """Return the scratch row of cells that `lcss_lanes` needs for `band`, float64."""
    return np.empty((2 * band + 3) * LANES)


@jit
def _fill(cells: Any, value: float) -> None:
    # A loop, because numba takes a second longer to compile an assignment to a slice.
    for cell in range(cells.size):
        cells[cell] = value


@jit
def lcss_lanes(
    query: Any, windows: Any, band: int, epsilon: float, cells: Any, costs: Any, stop: int = 0
) -> None:
    """Write ``m - LCSS`` of each lane to `costs`: the number of points without a match.

    All arrays are float64, and `query` has m points like the windows. Point t of lane l is at
    ``t * LANES + l`` in `windows`, without padding.

    The cell in column j of row i is written to slot s = ``j - i + band + 1`` of `cells`. Before the
    write, slot s holds the diagonal neighbour of the cell, and slot s + 1 holds the cell above. One
    guard slot at either end of `cells` stands for the cells outside of the band.

    If the flag at the address `stop` is set, the function returns and leaves `costs` unchanged.
    """
    m = query.size
    _fill(cells, 0.0)
    for i in range(m):
        if i % CHECK_ROWS == 0 and _stopped(stop):
            return
        value = query[i]
        for slot in range(max(0, band - i), min(2 * band + 1, m + band - i)):
            lcss_cell(cells, slot + 1, windows, i + slot - band, value, epsilon)
    for lane in range(LANES):
        costs[lane] = m - cells[(band + 1) * LANES + lane]
