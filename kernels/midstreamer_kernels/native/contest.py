"""Comparison of the windows that lower bounds did not rule out: float32, then float64, then rank.

Both comparisons take as many windows at once as the processor has lanes. The float32 comparison is
only a filter before the float64 comparison; no result depends on it. Its rounding error is bounded
as follows. Let d be a difference of two points on the best path of the exact comparison, q the
query's point there, and u = 2**-24. Rounding both points to float32 changes d by at most
``u (|d| + 2 |q|)``. The path has at most 2 m - 1 cells, so by the triangle inequality the root of
its cost changes by at most u of itself plus ``sqrt(2 m) 2 u max|q|``. Differences, squares and sums
round every term by less than (2 m + 4) u in total, and the best path in float32 costs no more than
this path. Hence, in units of the plan,

    float32 distance <= (exact distance (1 + u) + sqrt(2 m) 2 u max|q|) (1 + (2 m + 4) u).

Clipping points to `emit.block.CLIP` does not move them away from the query, so a window that is
ruled out with clipped points would also be ruled out without clipping. `profile` doubles each term.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.emit.block import emit_narrow, emit_place, emit_value
from midstreamer_kernels.emit.stopping import emit_stopped
from midstreamer_kernels.emit.values import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.native.block import value_at
from midstreamer_kernels.native.compiling import inlined, jit
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.heap import offer
from midstreamer_kernels.native.lanes import (
    LANES_32,
    LANES_64,
    PADDING,
    dtw_block,
    lcss_lanes,
)
from midstreamer_kernels.native.vector import LANES
from midstreamer_kernels.plan import FIRST, ITEM_BYTES, SCALE, SHIFT, SLACK, SMALLEST, VALUES

_SINGLE, _DOUBLE = Shape(FLOAT32, LANES_32, 1), Shape(FLOAT64, LANES_32, 1)
_narrow, _float64_at = emitted(emit_narrow, _DOUBLE), emitted(emit_value, _DOUBLE)
_stopped = emitted(emit_stopped, _SINGLE)
_place_32, _place_64 = emitted(emit_place, _SINGLE), emitted(emit_place, _DOUBLE)

UP = 1.0 + 1e-6  # factor for limits, which makes up for rounding them to float32


def room(plan: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return the scratch arrays that `compare_common` or `compare_warped` takes after `group`.

    Which of the two functions it is depends on ``plan["lcss"]``.
    """
    m, band = int(plan["m"][0]), int(plan["band"][0])
    if plan["lcss"][0]:
        return (
            np.empty(LANES, np.int64), np.zeros(m * LANES),
            np.empty((2 * band + 3) * LANES), np.empty(LANES),
        )  # fmt: skip
    return (
        np.empty(LANES_32, np.int64), np.zeros(m * LANES_32),
        np.full((m + 2 * PADDING) * LANES_32, np.inf, np.float32),
        np.empty((2 * band + 2) * LANES_32, np.float32), np.empty(LANES_32, np.float32),
        np.full((m + 2 * PADDING) * LANES_64, np.inf),
        np.empty((2 * band + 2) * LANES_64), np.empty(LANES_64),
    )  # fmt: skip


@inlined
def reach(plan: Any, distances: Any, found: Any, shared: Any) -> Any:
    """Return the distance beyond which no window can be one of the k nearest."""
    worst = distances[0] if found[0] == distances.size else np.inf
    return min(worst, plan.cutoff, shared[0])


@inlined
def as_bound(plan: Any, distance: float) -> Any:
    """Return `distance` converted to the form of stored bounds, float32, rounded up.

    For LCSS that is a count of points, for DTW a distance in units of the plan.
    """
    if plan.lcss:
        return np.float32(distance * plan.m + 0.5)  # a count
    return np.float32(distance / plan.unit * UP)


@jit
def compare_warped(
    plan: Any, table: Any, before: Any, chosen: Any, bounds: Any, query: Any, narrow: Any,
    group: Any, windows: Any, block: Any, cells: Any, costs: Any,
    exact: Any, exact_cells: Any, exact_costs: Any,
    distances: Any, orders: Any, found: Any, shared: Any,
) -> None:  # fmt: skip
    """Compare candidate windows by DTW, and add the matches to the heap of the nearest.

    `chosen` holds ascending candidate numbers, and `bounds` their lower bounds. `distances` and
    `orders` are a heap of ``found[0]`` matches. `shared` holds an upper bound of the k-th best
    distance, common to all threads. Threads write to it without a lock, so a thread may overwrite a
    lower value of another. That costs time but no exactness, because every value written there is a
    valid upper bound. The function returns early if the search is stopped.
    """
    place = 0
    while place < chosen.size:
        limit = reach(plan, distances, found, shared)
        place, count = _gather(
            plan, table, before, chosen, bounds, place, as_bound(plan, limit), group, windows
        )
        count = _filter(plan, limit, count, narrow, windows, block, cells, costs, group)
        if _stopped(plan.stop):
            return
        for begin in range(0, count, LANES_64):
            end = min(begin + LANES_64, count)
            _rank_exactly(
                plan, group[begin:end], costs[begin:end], query, windows, exact, exact_cells,
                exact_costs, distances, orders, found, shared,
            )  # fmt: skip
            if _stopped(plan.stop):
                return


@jit
def compare_common(
    plan: Any, table: Any, before: Any, chosen: Any, bounds: Any, query: Any,
    group: Any, windows: Any, cells: Any, costs: Any,
    distances: Any, orders: Any, found: Any, shared: Any,
) -> None:  # fmt: skip
    """Compare candidate windows by LCSS, and add the matches to the heap of the nearest.

    There is no float32 filter. The arguments are those of `compare_warped` where they have the same
    names. The function returns early if the search is stopped.
    """
    place = 0
    while place < chosen.size:
        limit = as_bound(plan, reach(plan, distances, found, shared))
        place, count = _gather(plan, table, before, chosen, bounds, place, limit, group, windows)
        lcss_lanes(query, windows, plan.band, plan.epsilon, cells, costs, plan.stop)
        if _stopped(plan.stop):
            return
        for lane in range(count):
            distance = 1.0 - (plan.m - costs[lane]) / plan.m
            _rank(plan, distance, group[lane], distances, orders, found, shared)


@jit
def _gather(
    plan: Any, table: Any, before: Any, chosen: Any, bounds: Any, place: int, limit: Any,
    group: Any, windows: Any,
) -> Any:  # fmt: skip
    """Copy the next candidates whose bound is within `limit` into the lanes of `windows`.

    Return the index in `chosen` after them, and their number. Their numbers are put into `group`.
    """
    count = 0
    while place < chosen.size and count < group.size:
        order = chosen[place]
        if bounds[place] <= limit:
            group[count] = order
            lane = windows.ctypes.data + 8 * count
            _place(plan, table, before, order, lane, group.size)
            count += 1
        place += 1
    return place, count


@jit
def _rank_exactly(
    plan: Any, group: Any, sources: Any, query: Any, windows: Any, exact: Any, cells: Any,
    costs: Any, distances: Any, orders: Any, found: Any, shared: Any,
) -> None:  # fmt: skip
    """Compare the windows in the lanes `sources` in float64, and add the matches to the heap.

    `group` holds the candidate numbers of these windows.
    """
    for lane in range(group.size):
        source = np.int64(sources[lane])
        for t in range(plan.m):
            exact[(PADDING + t) * LANES_64 + lane] = windows[t * LANES_32 + source]
    limit = reach(plan, distances, found, shared)
    # The tolerance is needed because the root of a greater cost may round to exactly the limit.
    highest = limit * limit * (1.0 + SLACK) + SMALLEST
    dtw_block(query, exact, plan.band, highest, cells, costs, plan.stop)
    for lane in range(group.size):
        _rank(plan, np.sqrt(costs[lane]), group[lane], distances, orders, found, shared)


@inlined
def _place(plan: Any, table: Any, before: Any, order: int, lane: int, lanes: int) -> None:
    """Copy the window of candidate `order` into a lane, z-normalised if the plan says so.

    `lane` is the address of the lane's first element, and `lanes` the number of lanes.
    """
    which = 0
    while order >= before[which + 1]:
        which += 1
    row = table[which]
    begin = row[FIRST] + (order - before[which]) * plan.step
    values, origin, shift, scale = row[VALUES] + row[ITEM_BYTES] * begin, 0.0, 0.0, 1.0
    if plan.normalized:
        origin = value_at(row, begin)
        shift, scale = _float64_at(row[SHIFT] + 8 * begin), _float64_at(row[SCALE] + 8 * begin)
    if row[ITEM_BYTES] == 4:
        _place_32(values, plan.m, origin, shift, scale, lane, lanes)
    else:
        _place_64(values, plan.m, origin, shift, scale, lane, lanes)


@inlined
def _filter(
    plan: Any, limit: float, count: int, narrow: Any, windows: Any, block: Any, cells: Any,
    costs: Any, group: Any,
) -> int:  # fmt: skip
    """Remove from `group` the candidates that the float32 comparison rules out.

    `costs` receives the lanes of the candidates that stay; their number is returned.
    """
    if limit == np.inf:
        for lane in range(count):
            costs[lane] = lane
        return count
    target = block.ctypes.data + 4 * PADDING * LANES_32
    _narrow(windows.ctypes.data, target, windows.size, plan.origin, 1.0 / plan.unit)
    most = limit / plan.unit * plan.filter_factor + plan.filter_noise
    highest = np.float32(most * most * UP)
    dtw_block(narrow, block, plan.band, highest, cells, costs, plan.stop)
    kept = 0
    for lane in range(count):
        near = costs[lane] <= highest
        group[kept], costs[kept] = group[lane], lane if near else costs[kept]
        kept += near
    return kept


@inlined
def _rank(
    plan: Any, distance: float, order: int, distances: Any, orders: Any, found: Any, shared: Any
) -> None:
    if distance > plan.cutoff or distance == np.inf:
        return
    found[0] = offer(distances, orders, found[0], distance, order)
    # With fewer than k matches in this thread, its worst match is no bound of the k-th best.
    if found[0] == plan.k and distances[0] < shared[0]:
        shared[0] = distances[0]
