"""Search of a collection that compares the rows one by one, with either engine.

For DTW, rows are compared in ascending order of their lower bound, so the search ends at the first
bound that exceeds the k-th best distance. The bound is LB_Keogh, computed in float64 with numpy.
The tolerances `search_inputs.SLACK` and `search_inputs.SMALLEST` cover its rounding errors.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.lcss import common_lengths, ordered
from midstreamer_kernels.normal_forms import envelope_of
from midstreamer_kernels.search_inputs import SLACK, SMALLEST

PORTION = 4096  # rows handled in one call, which limits the size of temporary copies

Compare = Callable[..., float]
Found = tuple[NDArray[np.int64], NDArray[np.float64]]


def nearest_first(
    compare: Compare,
    rows: NDArray[Any],
    query: NDArray[np.float64],
    k: int,
    *,
    band: int,
    cutoff: float,
    first: int,
    last: int,
) -> Found:
    """Return row numbers and float64 DTW distances that include the k nearest within `cutoff`.

    Only the rows [first, last) are searched. Rows beyond the k nearest may be returned too.
    `compare` is an engine's function for the squared DTW distance.
    """
    bounds = _bounds(rows[first:last], query, band)
    worst: list[float] = []  # a heap of the k least distances, negated: the k-th best is first
    chosen, distances, reach = [], [], cutoff
    for place in np.argsort(bounds, kind="stable").tolist():
        limit = reach * reach * (1.0 + SLACK) + SMALLEST
        if bounds[place] > limit:
            break
        cost = compare(query, rows[first + place].astype(np.float64), band, limit)
        distance = math.sqrt(cost)
        if distance > reach or cost == math.inf:
            continue
        chosen.append(first + place)
        distances.append(distance)
        heapq.heappush(worst, -distance)
        if len(worst) > k:
            heapq.heappop(worst)
        if len(worst) == k:
            reach = min(reach, -worst[0])
    return np.array(chosen, np.int64), np.array(distances)


def _bounds(rows: NDArray[Any], query: NDArray[np.float64], band: int) -> NDArray[np.float64]:
    upper, lower = envelope_of(query, band, rows.shape[1])
    bounds = np.empty(len(rows))
    for begin in range(0, len(rows), PORTION):
        part = rows[begin : begin + PORTION].astype(np.float64)
        excess = np.maximum(np.maximum(part - upper, lower - part), 0.0)
        bounds[begin : begin + PORTION] = np.square(excess).sum(axis=1)
    return bounds


def common_subsequences(
    rows: NDArray[Any],
    query: NDArray[np.float64],
    *,
    epsilon: float,
    band: int,
    first: int,
    last: int,
    one_by_one: Callable[..., int] | None = None,
) -> Found:
    """Return the row numbers of [first, last) and their LCSS distances, float64.

    The distance is ``1 - length / min(n, m)``. `one_by_one` is an engine's function that compares
    two series; if it is None, the numba engine compares up to `PORTION` rows in one call.
    """
    lengths, keys = np.empty(last - first, np.int64), ordered(query) if one_by_one is None else None
    for begin in range(first, last, PORTION):
        part = rows[begin : min(begin + PORTION, last)].astype(np.float64)
        found = lengths[begin - first : begin - first + len(part)]
        if one_by_one is None:
            common_lengths(part, query, keys, epsilon, band, found)
        else:
            found[:] = [one_by_one(query, row, epsilon, band) for row in part]
    return np.arange(first, last), 1.0 - lengths / min(query.size, rows.shape[1])
