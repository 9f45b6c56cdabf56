"""One query against many windows at once, lane l for window l.

`dtw_block` compares in float32 or float64, as its arrays are, with the loops of `emit.lanes`. A
block of windows is a flat array of ``(m + 2 * PADDING) * lane_count(array)`` elements: point t of
lane l at ``(PADDING + t) * lanes + l``, and infinity in the padding (`empty_block` makes one). A
lane without a window may hold anything that is not NaN; infinities give an infinite cost.

Every lane computes exactly the cells of `reference.dtw`, so a window's cost is a pure function of
its values and the query's, whatever shares the registers.

`lcss_lanes` counts common subsequences of `LANES` float64 windows, cell by cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.emit.lanes import emit_lanes
from midstreamer_kernels.emit.stopping import emit_stopped
from midstreamer_kernels.emit.values import FLOAT32, FLOAT64, Number, Shape
from midstreamer_kernels.native import machine
from midstreamer_kernels.native.compiling import inlined, jit
from midstreamer_kernels.native.emitted import emitted, emitted_like
from midstreamer_kernels.native.vector import LANES, lcss_cell

ROWS = 2  # that advance together; more help only where there are more registers
PADDING = ROWS - 1
CHECK_ROWS = 16  # rows of LCSS between two looks at the flag that ends a search


def shape_for(number: Number) -> Shape:
    """Return the lanes and rows that suit this machine: four vectors in flight, twelve held."""
    offered = machine.instruction_set()
    return Shape(number, 2 * offered.lanes(number), ROWS, offered.integers(number))


_SHAPES = (shape_for(FLOAT32), shape_for(FLOAT64))
LANES_32, LANES_64 = (shape.lanes for shape in _SHAPES)
_compare = emitted_like(emit_lanes, _SHAPES)
_stopped = emitted(emit_stopped, _SHAPES[0])


@inlined
def lane_count(like: Any) -> int:
    """Return how many windows of the type of `like` are compared at once."""
    return LANES_32 if like.itemsize == 4 else LANES_64


@inlined
def empty_block(like: Any, m: int) -> Any:
    """Return a block of windows of `m` points, every lane at infinity."""
    return np.full((m + 2 * PADDING) * lane_count(like), np.inf, like.dtype)


@inlined
def block_cells(like: Any, band: int) -> Any:
    """Return the scratch that `dtw_block` needs for `band`."""
    return np.empty((2 * band + 2) * lane_count(like), like.dtype)


@jit
def dtw_block(
    query: Any, block: Any, band: int, limit: float, cells: Any, costs: Any, stop: int = 0
) -> None:
    """Write the squared DTW cost of each lane into `costs`.

    Parameters
    ----------
    query : ndarray, shape (n,), float32 or float64 as all arrays here
    block : ndarray, flat, as `empty_block`
        Windows of m points, which need not be n.
    band : int
        At least ``|n - m|``.
    limit : float
        When every lane is beyond it the comparison may stop, and then all costs are infinite.
    cells : ndarray, from `block_cells`
    costs : ndarray, shape (lane_count(query),)
    stop : int
        Address of a `Stop`, 0 for none: once it is set, the comparison ends and costs are infinite.
    """
    m = block.size // lane_count(query) - 2 * PADDING
    _compare(
        query, query.ctypes.data, query.size, block.ctypes.data, m, band, limit,
        cells.ctypes.data, costs.ctypes.data, stop,
    )  # fmt: skip


@jit
def scratch(band: int) -> Any:
    """Return the row of cells that `lcss_lanes` needs for `band`."""
    return np.empty((2 * band + 3) * LANES)


@jit
def _fill(cells: Any, value: float) -> None:
    # Assigning to a slice does the same and compiles for a second longer.
    for cell in range(cells.size):
        cells[cell] = value


@jit
def lcss_lanes(
    query: Any, windows: Any, band: int, epsilon: float, cells: Any, costs: Any, stop: int = 0
) -> None:
    """Write ``m - LCSS`` of each lane into `costs`: the points left without a partner.

    Point t of lane l is at ``t * LANES + l`` in `windows`; there is no padding. Column j of row i
    lies in slot ``j - i + band + 1``: the cell above one slot ahead, the diagonal neighbour in the
    slot itself, and a guard slot on either side for the cells outside of the band. `stop` as of
    `dtw_block`, but costs are then left as they were.
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
