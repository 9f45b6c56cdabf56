"""Comparison of the windows that lower bounds did not rule out.

DTW compares a window in float32 first, and then in float64 if the float32 comparison does not rule
it out. If the float64 distance is among the k least so far, the window enters the ranking. Both
comparisons take as many windows at once as the processor has lanes. The float32 comparison cannot
change a result: it rules out a window only if the window's float32 distance exceeds the limit by
more than rounding can cause. Let u be 2**-24, and let q be the m points of the query. Points and
distances are divided by the plan's `unit`. Then

    float32 distance <= (exact distance (1 + u) + sqrt(2 m) 2 u max|q|) (1 + (2 m + 4) u).

Proof: let d be a difference of two points on the best path of the exact comparison, and q the
query's point there. Rounding both points to float32 changes d by at most ``u (|d| + 2 |q|)``. The
path has at most 2 m - 1 cells, so by the triangle inequality the root of its cost changes by at
most u of itself plus ``sqrt(2 m) 2 u max|q|``. Differences, squares and sums round every term by
less than (2 m + 4) u in total. The best path in float32 costs no more than this path.

The tolerances `filter_factor` and `filter_noise` of `query_profile.PLAN` are about twice these
error bounds. Clipping points to `emit.window_preparation.CLIP` does not move them away from the
query, so a window that is ruled out with clipped points would also be ruled out without clipping.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.emit.cancel_flag import emit_stopped
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.emit.window_preparation import emit_narrow, emit_place, emit_value
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.heap import offer
from midstreamer_kernels.native.jit_decorators import inlined, jit
from midstreamer_kernels.native.lcss_cell import LANES
from midstreamer_kernels.native.window_preparation import value_at
from midstreamer_kernels.native.windows_in_lanes import (
    LANES_32,
    LANES_64,
    PADDING,
    dtw_block,
    lcss_lanes,
)
from midstreamer_kernels.search_inputs import (
    FIRST,
    ITEM_BYTES,
    SCALE,
    SHIFT,
    SLACK,
    SMALLEST,
    VALUES,
)

_SINGLE, _DOUBLE = Shape(FLOAT32, LANES_32, 1), Shape(FLOAT64, LANES_32, 1)
_narrow, _float64_at = emitted(emit_narrow, _DOUBLE), emitted(emit_value, _DOUBLE)
_stopped = emitted(emit_stopped, _SINGLE)
_place_32, _place_64 = emitted(emit_place, _SINGLE), emitted(emit_place, _DOUBLE)

UP = 1.0 + 1e-6  # factor for limits, so that rounding a limit to float32 never lowers it


class Ranking(NamedTuple):
    """The best matches so far: a heap, the worst match first."""

    distances: NDArray[np.float64]
    """Distances of the matches in the heap, shape (k,)."""
    orders: NDArray[np.int64]
    """Candidate numbers of the matches in the heap, shape (k,)."""
    found: NDArray[np.int64]
    """Number of matches in the heap, shape (1,)."""
    shared: NDArray[np.float64]
    """An upper bound of the k-th best distance, shape (1,), shared by all threads.

    Threads lower the bound without a lock, so a thread may overwrite a lower value of another
    thread. That costs time but no exactness, because every value is a valid upper bound.
    """


class Group(NamedTuple):
    """Candidate windows that are compared at once, one per lane."""

    orders: Any
    """Candidate numbers of the windows in the group, shape (lanes,), int64."""
    windows: Any
    """Points of the windows: point t of lane l is at ``t * lanes + l``. Shape (m * lanes,),
    float64."""


class Scratch(NamedTuple):
    """The arrays of one comparison in lanes (`native.windows_in_lanes`)."""

    block: Any
    """The windows in the number type of the comparison; see `windows_in_lanes.dtw_block`.

    An LCSS comparison reads the windows of the group instead and has an empty block.
    """
    cells: Any
    """Scratch memory for cells of the cost matrix."""
    costs: Any
    """Receives the cost of each lane, shape (lanes,)."""


class Desk(NamedTuple):
    """The arrays of all comparisons of a scan; every group of candidates uses the same arrays.

    The arrays are in one flat tuple, because each tuple in a call costs numba half a microsecond.
    """

    orders: Any
    """Numbers of the candidates that are compared at once; see `Group.orders`."""
    windows: Any
    """Points of the windows that are compared at once, one window per lane; see `Group.windows`."""
    block: Any
    """Windows for the comparison by DTW in float32; empty for LCSS."""
    cells: Any
    """Scratch memory for matrix cells, of DTW in float32 or of LCSS in float64."""
    costs: Any
    """Receives one cost per lane, computed by DTW in float32 or by LCSS in float64."""
    exact_block: Any
    """Windows for the comparison by DTW in float64; not used for LCSS."""
    exact_cells: Any
    """Scratch memory for the matrix cells of DTW in float64; not used for LCSS."""
    exact_costs: Any
    """Receives one cost per lane, computed by DTW in float64; not used for LCSS."""


def desk(plan: NDArray[Any]) -> Desk:
    """Return the arrays that comparisons of the scan with this `plan` need.

    The arrays are for `compare_common` if ``plan["lcss"]`` is 1, else for `compare_warped`.
    """
    m, band = int(plan["m"][0]), int(plan["band"][0])
    if plan["lcss"][0]:
        common = np.empty(0), np.empty((2 * band + 3) * LANES), np.empty(LANES)
        return Desk(np.empty(LANES, np.int64), np.zeros(m * LANES), *common, *common)
    return Desk(
        np.empty(LANES_32, np.int64), np.zeros(m * LANES_32),
        np.full((m + 2 * PADDING) * LANES_32, np.inf, np.float32),
        np.empty((2 * band + 2) * LANES_32, np.float32), np.empty(LANES_32, np.float32),
        np.full((m + 2 * PADDING) * LANES_64, np.inf),
        np.empty((2 * band + 2) * LANES_64), np.empty(LANES_64),
    )  # fmt: skip


@inlined
def reach(plan: Any, ranking: Any) -> Any:
    """Return the distance beyond which a window cannot be one of the k nearest."""
    full = ranking.found[0] == ranking.distances.size
    worst = ranking.distances[0] if full else np.inf
    return min(worst, plan.cutoff, ranking.shared[0])


@inlined
def as_bound(plan: Any, distance: float) -> Any:
    """Return `distance` converted to the form of stored bounds, float32, rounded up.

    A bound of LCSS is a number of points without a match, a bound of DTW is a distance divided by
    the plan's `unit`.
    """
    if plan.lcss:
        # An LCSS distance is the number of points without a match, divided by m. Rounding may make
        # `distance * plan.m` a little less than that number. With 0.5 added it is never less.
        return np.float32(distance * plan.m + 0.5)
    return np.float32(distance / plan.unit * UP)


@jit
def compare_warped(
    plan: Any, histories: Any, query: Any, narrow: Any, chosen: Any, bounds: Any, desk: Any,
    ranking: Any,
) -> None:  # fmt: skip
    """Compare candidate windows by DTW, and add the matches to the ranking.

    `chosen` holds ascending candidate numbers, and `bounds` their lower bounds. `query` and
    `narrow` are the attributes with these names of the `query_profile.Profile`: the query in
    float64 and in float32. The function returns early if the search is stopped.
    """
    group, scratch = Group(desk.orders, desk.windows), Scratch(desk.block, desk.cells, desk.costs)
    exact, place = Scratch(desk.exact_block, desk.exact_cells, desk.exact_costs), 0
    while place < chosen.size:
        limit = reach(plan, ranking)
        within = as_bound(plan, limit)
        place, count = _gather(plan, histories, chosen, bounds, place, within, group)
        count = _filter(plan, limit, count, narrow, group, scratch)
        if _stopped(plan.stop):
            return
        for begin in range(0, count, LANES_64):
            end = min(begin + LANES_64, count)
            sources, orders = desk.costs[begin:end], desk.orders[begin:end]
            _rank_exactly(plan, query, sources, orders, desk.windows, exact, ranking)
            if _stopped(plan.stop):
                return


@jit
def compare_common(
    plan: Any, histories: Any, query: Any, chosen: Any, bounds: Any, desk: Any, ranking: Any
) -> None:
    """Compare candidate windows by LCSS, and add the matches to the ranking.

    There is no float32 filter. The arguments are those of `compare_warped` where they have the same
    names. The function returns early if the search is stopped.
    """
    group, costs, place = Group(desk.orders, desk.windows), desk.costs, 0
    while place < chosen.size:
        limit = as_bound(plan, reach(plan, ranking))
        place, count = _gather(plan, histories, chosen, bounds, place, limit, group)
        lcss_lanes(query, desk.windows, plan.band, plan.epsilon, desk.cells, costs, plan.stop)
        if _stopped(plan.stop):
            return
        for lane in range(count):
            _rank(plan, 1.0 - (plan.m - costs[lane]) / plan.m, desk.orders[lane], ranking)


@jit
def _gather(
    plan: Any, histories: Any, chosen: Any, bounds: Any, place: int, limit: Any, group: Any
) -> Any:
    """Copy the next candidates whose bound is within `limit` into the lanes of `group`.

    `place` is the index in `chosen` at which to begin. Return the index at which the next call must
    begin, and the number of copied candidates.
    """
    orders, windows = group.orders, group.windows
    count = 0
    while place < chosen.size and count < orders.size:
        order = chosen[place]
        if bounds[place] <= limit:
            orders[count] = order
            lane = windows.ctypes.data + 8 * count
            _place(plan, histories, order, lane, orders.size)
            count += 1
        place += 1
    return place, count


@jit
def _rank_exactly(
    plan: Any, query: Any, sources: Any, orders: Any, windows: Any, exact: Any, ranking: Any
) -> None:
    """Compare some of the `windows` in float64, and add the matches to the ranking.

    `sources` holds the lane numbers of these windows, and `orders` their candidate numbers.
    """
    block, costs = exact.block, exact.costs
    for lane in range(orders.size):
        source = np.int64(sources[lane])
        for t in range(plan.m):
            block[(PADDING + t) * LANES_64 + lane] = windows[t * LANES_32 + source]
    limit = reach(plan, ranking)
    # The limit on costs has a tolerance, because the root of a greater cost may round to exactly
    # the limit on distances.
    highest = limit * limit * (1.0 + SLACK) + SMALLEST
    dtw_block(query, block, plan.band, highest, exact.cells, costs, plan.stop)
    for lane in range(orders.size):
        _rank(plan, np.sqrt(costs[lane]), orders[lane], ranking)


@inlined
def _place(plan: Any, histories: Any, order: int, lane: int, lanes: int) -> None:
    """Copy the window of candidate `order` into a lane, z-normalised if the plan says so.

    `lane` is the address of the lane's first element, and `lanes` the number of lanes.
    """
    before, which = histories.before, 0
    while order >= before[which + 1]:
        which += 1
    row = histories.table[which]
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
def _filter(plan: Any, limit: float, count: int, narrow: Any, group: Any, scratch: Any) -> int:
    """Remove from `group` the candidates that the float32 comparison rules out.

    The candidates that stay move to the front of `group.orders`. Their lane numbers are written to
    ``scratch.costs``, over the costs. The function returns how many candidates stay.
    """
    orders, windows, block, costs = group.orders, group.windows, scratch.block, scratch.costs
    if limit == np.inf:
        for lane in range(count):
            costs[lane] = lane
        return count
    target = block.ctypes.data + 4 * PADDING * LANES_32
    _narrow(windows.ctypes.data, target, windows.size, plan.origin, 1.0 / plan.unit)
    most = limit / plan.unit * plan.filter_factor + plan.filter_noise
    highest = np.float32(most * most * UP)
    dtw_block(narrow, block, plan.band, highest, scratch.cells, costs, plan.stop)
    kept = 0
    for lane in range(count):
        near = costs[lane] <= highest
        orders[kept], costs[kept] = orders[lane], lane if near else costs[kept]
        kept += near
    return kept


@inlined
def _rank(plan: Any, distance: float, order: int, ranking: Any) -> None:
    if distance > plan.cutoff or distance == np.inf:
        return
    distances, found, shared = ranking.distances, ranking.found, ranking.shared
    found[0] = offer(distances, ranking.orders, found[0], distance, order)
    # Lower the shared bound of the k-th best distance. This thread's worst match is such a bound
    # only if the thread has k matches.
    if found[0] == plan.k and distances[0] < shared[0]:
        shared[0] = distances[0]
