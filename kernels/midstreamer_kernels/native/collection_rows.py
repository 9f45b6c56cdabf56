"""Rows of a collection: their exact DTW costs in float64, and their layout in lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.jit_decorators import jit
from midstreamer_kernels.native.windows_in_lanes import (
    LANES_32,
    LANES_64,
    PADDING,
    block_cells,
    dtw_block,
    empty_block,
)


@jit
def exact_costs(rows: Any, query: Any, band: int, chosen: Any, costs: Any) -> None:
    """Fill `costs` with the squared DTW distances of the rows with the numbers `chosen`.

    Parameters
    ----------
    rows : ndarray, shape (n, m), float32 or float64
    query : ndarray, shape (q,), float64
    band : int
        Half-width of the warping band in points, at least ``|q - m|``.
    chosen : ndarray, shape (count,), int64
    costs : ndarray, shape (count,), float64
        Receives the squared distances, computed in float64.
    """
    m = rows.shape[1]
    block, cells = empty_block(query, m), block_cells(query, band)
    lanes = np.empty(LANES_64)
    for begin in range(0, chosen.size, LANES_64):
        count = min(LANES_64, chosen.size - begin)
        for lane in range(count):
            row = rows[chosen[begin + lane]]
            for t in range(m):
                block[(PADDING + t) * LANES_64 + lane] = row[t]
        dtw_block(query, block, band, np.inf, cells, lanes)
        for lane in range(count):
            costs[begin + lane] = lanes[lane]


def in_lanes(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 `rows` of shape (n, m) as blocks for `native.windows_in_lanes.dtw_block`.

    The result has the shape (blocks, elements); each block holds `LANES_32` rows, one per lane.
    """
    n, m = rows.shape
    count = -(-n // LANES_32)
    blocks = np.full((count, m + 2 * PADDING, LANES_32), np.inf, np.float32)
    for row in range(0, n, LANES_32):
        part = rows[row : row + LANES_32]
        blocks[row // LANES_32, PADDING : PADDING + m, : len(part)] = part.T
    return blocks.reshape(count, -1)
