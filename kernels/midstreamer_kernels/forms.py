"""What series are turned into before they are compared: z-normal forms, and envelopes of queries.

numpy alone, so that an engine without a compiler has it too. Sums run in order over each series, so
the bits are those of `reference.normal` and of the windows' kept statistics.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

PORTION = 1024  # rows worked on together: their columns stay in the nearer caches


def normal_form(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the z-normal form of a series, shape (m,); a constant one becomes zeros."""
    risen = raw - raw[0]
    risen -= np.add.accumulate(risen)[-1] / raw.size
    variance = float(np.add.accumulate(risen * risen)[-1]) / raw.size
    scale = 1.0 / math.sqrt(variance) if variance > 0.0 else 0.0
    normal: NDArray[np.float64] = risen * scale
    return normal


def normal_rows(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return what `normal_form` returns for each of `rows`, shape (n, m), many at a time."""
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


def envelope_of(points: NDArray[Any], band: int, m: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the highest and the lowest of `points` within `band` of each of m places.

    m differs from the number of points by `band` at most. The ends are repeated beyond the ends,
    which changes no extreme; spans double until they are as wide as the band.
    """
    beyond = band + max(0, m - points.size)
    # `numpy.pad` does the same in ten times the time.
    high = low = np.concatenate((points[:1].repeat(band), points, points[-1:].repeat(beyond)))
    width, span = 2 * band + 1, 1
    while span < width:
        step = min(span, width - span)
        high = np.maximum(high[:-step], high[step:])
        low = np.minimum(low[:-step], low[step:])
        span += step
    return high[:m], low[:m]
