"""Rows of a collection as numbers: their normal forms, their costs in float64, lanes of them.

`normal_rows` is numpy alone, so that an engine without a compiler has it too. It adds up each row
in order, many rows at a time: the bits are those of `native.windows` and of `reference.normal`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.lanes import (
    LANES_32,
    LANES_64,
    PADDING,
    block_cells,
    dtw_block,
    empty_block,
)

PORTION = 1024  # rows worked on together: their columns stay in the nearer caches


def normal_rows(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the z-normal forms of `rows`, shape (n, m); a constant row becomes zeros."""
    normal = np.empty(rows.shape)
    for begin in range(0, len(rows), PORTION):
        columns = np.array(rows[begin : begin + PORTION].T, np.float64, order="C")  # a copy
        columns -= columns[0].copy()
        columns -= _sum_in_order(columns) / len(columns)
        variance = _sum_in_order(columns * columns) / len(columns)
        varied = variance > 0.0
        scale = 1.0 / np.sqrt(np.where(varied, variance, 1.0))
        normal[begin : begin + PORTION] = (columns * np.where(varied, scale, 0.0)).T
    return normal


def _sum_in_order(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(columns.shape[1])
    for column in columns:
        total += column
    return total


@jit
def exact_costs(rows: Any, query: Any, band: int, chosen: Any, costs: Any) -> None:
    """Fill `costs` with the float64 costs of the chosen of `rows`, float32 or float64."""
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
    """Return `rows`, shape (n, m), as blocks for `native.lanes`, shape (blocks, elements)."""
    n, m = rows.shape
    count = -(-n // LANES_32)
    blocks = np.full((count, m + 2 * PADDING, LANES_32), np.inf, np.float32)
    for row in range(0, n, LANES_32):
        part = rows[row : row + LANES_32]
        blocks[row // LANES_32, PADDING : PADDING + m, : len(part)] = part.T
    return blocks.reshape(count, -1)
