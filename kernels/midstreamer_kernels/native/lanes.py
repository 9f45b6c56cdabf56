"""One query against `LANES` windows of its own length at once, lane l for window l.

Every lane computes exactly the cells of `reference.dtw` or `reference.lcss` in float64, so a
window's cost is a pure function of its values and the query's, whatever shares the registers.

The matrix is kept in band coordinates: column j of row i lives in slot ``j - i + band + 1``. There
the cell above lies one slot ahead and the diagonal neighbour in the slot itself, both still from
the last row when the slot is overwritten: one row is all that is kept. A guard slot on either side
stands for the cells outside of the band.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.vector import LANES, dtw_cell, lcss_cell

CHECK_EVERY = 16  # rows between two looks whether all lanes are beyond the limit


@jit
def scratch(band: int) -> Any:
    """Return the row of cells that a comparison with this band needs."""
    return np.empty((2 * band + 3) * LANES)


@jit
def _fill(cells: Any, value: float) -> None:
    # Assigning to a slice does the same and compiles for a second longer.
    for cell in range(cells.size):
        cells[cell] = value


@jit
def dtw_lanes(query: Any, windows: Any, band: int, limit: float, cells: Any, costs: Any) -> None:
    """Write the squared DTW cost of each lane into `costs`.

    Parameters
    ----------
    query : ndarray, shape (m,), float64
    windows : ndarray, shape (m * LANES,), float64
        Point t of lane l at ``t * LANES + l``.
    limit : float
        When every lane is beyond it the comparison stops and all costs are infinite.
    cells : ndarray, from `scratch`
    costs : ndarray, shape (LANES,), float64
    """
    m = query.size
    width = 2 * band + 1
    _fill(cells, np.inf)
    _fill(cells[(band + 1) * LANES : (band + 2) * LANES], 0.0)  # cell (-1, -1): paths begin here
    for i in range(m):
        value = query[i]
        low, high = max(0, band - i), min(width, m + band - i)
        for slot in range(low, high):
            dtw_cell(cells, slot + 1, windows, i + slot - band, value)
        # Slots outside of [low, high) hold infinity or cells that no path can use any more.
        live = cells[(low + 1) * LANES : (high + 1) * LANES]
        if i % CHECK_EVERY == CHECK_EVERY - 1 and _least(live) > limit:
            _fill(costs, np.inf)
            return
    for lane in range(LANES):
        costs[lane] = cells[(band + 1) * LANES + lane]


@jit(reorder_sums=True)
def _least(cells: Any) -> float:
    # A minimum is the same in any order, and nothing here is NaN.
    least = np.inf
    for cell in range(cells.size):
        least = cells[cell] if cells[cell] < least else least
    return least


@jit
def lcss_lanes(query: Any, windows: Any, band: int, epsilon: float, cells: Any, costs: Any) -> None:
    """Write ``m - LCSS`` of each lane into `costs`: the points left without a partner."""
    m = query.size
    _fill(cells, 0.0)
    for i in range(m):
        value = query[i]
        for slot in range(max(0, band - i), min(2 * band + 1, m + band - i)):
            lcss_cell(cells, slot + 1, windows, i + slot - band, value, epsilon)
    for lane in range(LANES):
        costs[lane] = m - cells[(band + 1) * LANES + lane]
