"""Z-normal forms of series and LB_Keogh envelopes of queries, computed with numpy.

Only numpy is used, so that an engine without a compiler can call these functions too. Sums run over
each series from its first point to its last, so the results have the same bits as
`reference.normal` and as the window statistics that `stored_history` keeps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

PORTION = 1024  # rows normalised at once, few enough to stay in the CPU caches


def normal_form(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the z-normal form of a series of shape (m,): mean 0, population deviation 1.

    A constant series becomes zeros.
    """
    risen = raw - raw[0]
    risen -= np.add.accumulate(risen)[-1] / raw.size
    variance = float(np.add.accumulate(risen * risen)[-1]) / raw.size
    scale = 1.0 / math.sqrt(variance) if variance > 0.0 else 0.0
    normal: NDArray[np.float64] = risen * scale
    return normal


def normal_rows(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the z-normal form of each row: float64, shape (n, m), as `normal_form` computes it."""
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
    """Return the LB_Keogh envelope of `points`: two arrays of shape (m,), the upper one first.

    Element i is the maximum, or the minimum, of the points within `band` of index i. m is the
    length of the series to compare with; it differs from ``points.size`` by at most `band`. The
    first and the last point are repeated beyond the ends, which changes no extreme.

    The first pass computes the extremes of every 2 neighbouring points, the next pass those of
    every 4, and so on. The last pass computes those of ``2 * band + 1`` points.
    """
    beyond = band + max(0, m - points.size)
    # `numpy.pad` would also repeat the first and the last point, but takes ten times the time.
    high = low = np.concatenate((points[:1].repeat(band), points, points[-1:].repeat(beyond)))
    width, span = 2 * band + 1, 1
    while span < width:
        step = min(span, width - span)
        high = np.maximum(high[:-step], high[step:])
        low = np.minimum(low[:-step], low[step:])
        span += step
    return high[:m], low[:m]
