"""One tile of the distance matrix of two tables of series.

A thread computes a tile in one call, without the GIL. DTW compares each row with as many columns at
once as there are lanes. It compares pair by pair if too many lanes would be empty, or if the cells
of all lanes do not fit the L1 cache.

If both tables are the same, only the pairs above the diagonal are compared, and each distance is
written twice. Distances are symmetric to the bit, because the cost matrix of b and a is the
transpose of that of a and b.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from midstreamer_kernels.native.dtw_of_pair import dtw_squared
from midstreamer_kernels.native.jit_decorators import jit
from midstreamer_kernels.native.lcss import common_lengths
from midstreamer_kernels.native.windows_in_lanes import (
    PADDING,
    block_cells,
    dtw_block,
    empty_block,
    lane_count,
)

LEAST_SHARE = 4  # series are compared in lanes only if they fill at least a quarter of the lanes
# Greatest size in bytes of the cells of all lanes. Pairs of series with more cells, for example of
# 1,000 points without a band, are compared one by one, because their cells do not fit the L1 cache.
CELLS_BYTES = 2**15


class Tile(NamedTuple):
    """One tile: the rows [top, bottom) and the columns [left, right) of the distance matrix."""

    top: int
    bottom: int
    left: int
    right: int


@jit
def dtw_tile(
    rows: Any, columns: Any, band: int, symmetric: bool, tile: Any, distances: Any
) -> None:
    """Fill one tile of `distances` with DTW distances.

    Parameters
    ----------
    rows, columns : ndarray, shape (p, n) and (q, m), float32 or float64, the same type
    band : int
        Half-width of the warping band in points, at least ``|n - m|``.
    symmetric : bool
        Whether `columns` is the same table as `rows`. Then only pairs above the diagonal are
        compared, and each distance is also written to its mirrored cell.
    tile : Tile
    distances : ndarray, shape (p, q), float64
    """
    top, bottom, left, right = tile
    lanes = lane_count(rows)
    costs, cells = np.empty(lanes, rows.dtype), block_cells(rows, band)
    block = empty_block(rows, columns.shape[1])
    for first in range(left, right, lanes):
        count = min(lanes, right - first)
        together = count * LEAST_SHARE >= lanes and cells.nbytes <= CELLS_BYTES
        if together:
            _fill_lanes(columns[first : first + count], block, lanes)
        for i in range(top, min(bottom, first + count - 1) if symmetric else bottom):
            if together:
                dtw_block(rows[i], block, band, np.inf, cells, costs)
            begin = max(0, i + 1 - first) if symmetric else 0
            for lane in range(begin, count):
                if not together:
                    costs[lane] = dtw_squared(rows[i], columns[first + lane], band, np.inf)
                distances[i, first + lane] = np.sqrt(costs[lane])
                if symmetric:
                    distances[first + lane, i] = np.sqrt(costs[lane])


@jit
def _fill_lanes(series: Any, block: Any, lanes: int) -> None:
    for lane in range(series.shape[0]):
        for t in range(series.shape[1]):
            block[(PADDING + t) * lanes + lane] = series[lane, t]


@jit
def lcss_tile(
    rows: Any, columns: Any, keys: Any, epsilon: float, band: int, symmetric: bool, tile: Any,
    distances: Any,
) -> None:  # fmt: skip
    """Fill one tile of `distances` with LCSS distances, ``1 - length / min(n, m)``.

    Series are float64, and points match when they differ by at most `epsilon`. `keys` holds the
    result of `native.lcss.ordered` for each of `columns`. The other parameters are those of
    `dtw_tile`.
    """
    top, bottom, left, right = tile
    most = min(rows.shape[1], columns.shape[1])
    lengths = np.empty(bottom - top, np.int64)
    for j in range(left, right):
        end = min(bottom, j) if symmetric else bottom
        count = max(0, end - top)
        common_lengths(rows[top:end], columns[j], keys[j], epsilon, band, lengths[:count])
        for i in range(count):
            distance = 1.0 - lengths[i] / most
            distances[top + i, j] = distance
            if symmetric:
                distances[j, top + i] = distance
