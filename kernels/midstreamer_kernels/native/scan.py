"""Search: the k nearest windows of many histories, exactly, in one call without the GIL.

How a scan goes:

1. *Bounds.* Each candidate window is z-normalised and compared with the envelope of the query.
2. *Seed.* The candidates with the smallest bounds are compared first, so that the k-th best is
   nearly final before the rest is looked at. That matters most when k is large.
3. *Rest.* Only candidates whose bound does not exceed the k-th best are compared.

Comparisons are made in lanes and in float64 throughout: no second scoring is needed, and what a
scan returns is what brute force returns, to the bit. Deliberately absent: early abandoning of a
single window; sixteen in lanes cost less than one that may stop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.native.bounds import envelope, keogh_bound, unmatched_bound
from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.heap import offer, sift_down
from midstreamer_kernels.native.lanes import dtw_lanes, lcss_lanes, scratch
from midstreamer_kernels.native.select import smallest
from midstreamer_kernels.native.vector import LANES
from midstreamer_kernels.native.windows import load, normalize, window_statistics
from midstreamer_kernels.plan import COUNT, FIRST, SEEDS_PER_MATCH, SLACK, SMALLEST, START


@jit
def _limit(distance: float, lcss: bool, m: int) -> float:
    """Return the cost above which no window is within `distance`, rounding considered."""
    if lcss:
        return distance * m + 0.5  # costs are whole numbers
    return distance * distance * (1.0 + SLACK) + SMALLEST


@jit
def _ends(table: Any) -> Any:
    """Return, for each row, the number of candidates up to its end."""
    ends, total = np.empty(table.shape[0], np.int64), 0
    for which in range(table.shape[0]):
        total += table[which, COUNT]
        ends[which] = total
    return ends


@jit
def _all_bounds(
    table: Any, step: int, query: Any, band: int, normalized: bool, lcss: bool, epsilon: float
) -> Any:
    m = query.size
    upper, lower, window = np.empty(m), np.empty(m), np.empty(m)
    envelope(query, band, upper, lower)
    bounds = np.empty(_ends(table)[-1])
    order = 0
    for which in range(table.shape[0]):
        row = table[which]
        for candidate in range(row[COUNT]):
            load(row, row[FIRST] + candidate * step, normalized, window)
            if lcss:
                bounds[order] = unmatched_bound(window, upper, lower, epsilon)
            else:
                bounds[order] = keogh_bound(window, upper, lower)
            order += 1
    return bounds


@jit
def scan(
    table: Any,
    step: int,
    query: Any,
    k: int,
    band: int,
    normalized: bool,
    lcss: bool,
    epsilon: float,
    cutoff: float,
) -> Any:
    """Return (which, index, distance) of the k nearest windows of all histories in `table`.

    Parameters
    ----------
    table : ndarray, shape (runs, COLUMNS), int64
        As `plan` says.
    step : int
        Points between two candidates.
    query : ndarray, shape (m,), float64
        As given; z-normalised here when `normalized`.
    cutoff : float
        Only windows at most this far; infinity for all.

    Returns
    -------
    which, index : ndarray, int64
        Row of the table and absolute position of the window's first point.
    distance : ndarray, float64
        Nearest first; ties by row, then position.
    """
    m = query.size
    if normalized:
        raw, query = query, np.empty(m)
        shift, scale = np.empty(1), np.empty(1)
        window_statistics(raw, m, 0, 1, shift, scale)
        normalize(raw, shift[0], scale[0], query)
    bounds = _all_bounds(table, step, query, band, normalized, lcss, epsilon)
    kept = min(k, bounds.size)
    distances, orders, size = np.empty(kept), np.empty(kept, np.int64), 0
    seeds = min(bounds.size, SEEDS_PER_MATCH * kept + 2 * LANES)
    seed_bound = np.inf if seeds == bounds.size else smallest(bounds, seeds)
    for phase in range(2):
        seeding = phase == 0
        limit = _limit(cutoff if seeding or size < kept else distances[0], lcss, m)
        limit = min(limit, _limit(cutoff, lcss, m))
        chosen = _choose(bounds, seed_bound, seeding, limit)
        size = _compare(
            table, step, query, band, normalized, lcss, epsilon, cutoff,
            bounds, chosen, distances, orders, size,
        )  # fmt: skip
    return _unload(table, step, distances, orders, size)


@jit
def _choose(bounds: Any, seed_bound: float, seeding: bool, limit: float) -> Any:
    chosen, count = np.empty(bounds.size, np.int64), 0
    for order in range(bounds.size):
        chosen[count] = order
        # No branch: whether a bound passes is close to a coin's fall.
        count += bounds[order] <= limit and (bounds[order] <= seed_bound) == seeding
    return chosen[:count]


@jit
def _compare(
    table: Any,
    step: int,
    query: Any,
    band: int,
    normalized: bool,
    lcss: bool,
    epsilon: float,
    cutoff: float,
    bounds: Any,
    chosen: Any,
    distances: Any,
    orders: Any,
    size: int,
) -> int:
    """Compare the chosen candidates, lanes at a time, and offer them to the heap."""
    m = query.size
    windows, window = np.zeros(m * LANES), np.empty(m)
    cells, costs = scratch(band), np.empty(LANES)
    group = np.empty(LANES, np.int64)
    ends = _ends(table)
    limit = _limit(cutoff, lcss, m)
    which = place = 0
    while place < chosen.size:
        if size == distances.size:
            limit = min(limit, _limit(distances[0], lcss, m))
        waiting = 0
        while place < chosen.size and waiting < LANES:
            order = chosen[place]
            place += 1
            if bounds[order] > limit:
                continue
            while order >= ends[which]:
                which += 1
            row = table[which]
            begin = row[FIRST] + (order - ends[which] + row[COUNT]) * step
            load(row, begin, normalized, window)
            for t in range(m):
                windows[t * LANES + waiting] = window[t]
            group[waiting] = order
            waiting += 1
        if lcss:
            lcss_lanes(query, windows, band, epsilon, cells, costs)
        else:
            dtw_lanes(query, windows, band, limit, cells, costs)
        for lane in range(waiting):
            distance = 1.0 - (m - costs[lane]) / m if lcss else np.sqrt(costs[lane])
            if distance <= cutoff and costs[lane] < np.inf:
                size = offer(distances, orders, size, distance, group[lane])
    return size


@jit
def _unload(table: Any, step: int, distances: Any, orders: Any, size: int) -> Any:
    """Take the heap apart, worst first, and turn candidate numbers into positions."""
    ends = _ends(table)
    which, index, distance = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    for place in range(size - 1, -1, -1):
        row = 0
        while orders[0] >= ends[row]:
            row += 1
        candidate = orders[0] - (ends[row] - table[row, COUNT])
        which[place] = row
        index[place] = table[row, START] + table[row, FIRST] + candidate * step
        distance[place] = distances[0]
        distances[0], orders[0] = distances[place], orders[place]
        sift_down(distances, orders, 0, place)
    return which, index, distance
