"""All pairs of the series in two tables: one tile of the matrix of distances.

A tile is what one thread does in one go, without the GIL. DTW compares each row with as many
columns at once as there are lanes; pair by pair where too many lanes would stay empty, or where
the row of cells that all lanes need does not fit the nearest cache.

Where the tables are the same one, only the pairs above the diagonal are compared, and each distance
is written twice: distances are symmetric to the bit, since every cell of the one cost matrix is
that of the other, transposed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.lanes import (
    PADDING,
    block_cells,
    dtw_block,
    empty_block,
    lane_count,
)
from midstreamer_kernels.native.lcss import common_lengths
from midstreamer_kernels.native.pairs import dtw_squared

LEAST_SHARE = 4  # lanes are worth their while from a quarter of them on
CELLS_BYTES = 2**15  # cells beyond this are read from afar: lanes of 1,000 points unbanded crawl


@jit
def dtw_tile(
    rows: Any,
    columns: Any,
    band: int,
    symmetric: bool,
    top: int,
    bottom: int,
    left: int,
    right: int,
    distances: Any,
) -> None:
    """Fill ``distances[top:bottom, left:right]`` with square roots of DTW costs.

    Parameters
    ----------
    rows, columns : ndarray, shape (p, n) and (q, m), float32 or float64, the same type
    band : int
        At least ``|n - m|``.
    symmetric : bool
        `columns` are `rows`: compare only where the column is after the row, and mirror.
    distances : ndarray, shape (p, q), float64
    """
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
    rows: Any,
    columns: Any,
    keys: Any,
    epsilon: float,
    band: int,
    symmetric: bool,
    top: int,
    bottom: int,
    left: int,
    right: int,
    distances: Any,
) -> None:
    """Fill ``distances[top:bottom, left:right]`` with ``1 - length / min(n, m)``, as `dtw_tile`.

    Series are float64; `keys` has what `native.lcss.ordered` returns for each of `columns`.
    """
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
