"""The rows of a collection compared one by one, by whatever engine: DTW in the order of bounds.

Bounds are LB_Keogh in float64, by numpy alone. They come ascending, so that the search is over at
the first one beyond the k-th best; what is left of rounding is covered as in `plan`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.forms import envelope_of
from midstreamer_kernels.native.lcss import common_lengths, ordered
from midstreamer_kernels.plan import SLACK, SMALLEST

PORTION = 4096  # rows worked on in one call: their temporary copies stay small

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
    """Return rows of [first, last) that have the k nearest within `cutoff` among them.

    `compare` is an engine's squared DTW distance; distances are computed in float64.
    """
    bounds = _bounds(rows[first:last], query, band)
    worst: list[float] = []  # the k least distances, negated: the heap's first is the k-th best
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
    """Return the rows [first, last) and their LCSS distances, ``1 - length / min(n, m)``.

    `one_by_one` compares two series; without it many are compared in a call of the numba engine.
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
