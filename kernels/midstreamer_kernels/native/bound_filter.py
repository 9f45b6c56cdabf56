"""Selection of the windows to compare, by lower bounds in lanes.

All windows get a coarse bound; the few that it does not rule out get a fine bound. A DTW bound is
stored as a distance, divided by the plan's `unit` and reduced by the possible rounding error, so
that it can be compared with the k-th best distance directly. An LCSS bound is stored as a number of
points without a match.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.emit.bounds import emit_keogh, emit_unmatched
from midstreamer_kernels.emit.cancel_flag import emit_stopped
from midstreamer_kernels.emit.vector_operations import FLOAT32, Shape
from midstreamer_kernels.native import simd_registers
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.histories import Histories
from midstreamer_kernels.native.jit_decorators import inlined, jit
from midstreamer_kernels.native.query_profile import STRIP
from midstreamer_kernels.native.remaining_windows import UP, as_bound
from midstreamer_kernels.native.window_preparation import (
    BACKWARD,
    DEALT,
    FORWARD,
    LIMITS,
    NOISES,
    OFFSETS,
    SLOPES,
    prepare,
)
from midstreamer_kernels.search_inputs import COUNT
from midstreamer_kernels.value_of_rank import value_of_rank

# A block may include up to this number of consecutive strips that have no window within the limit,
# so that the strips before and after them share one block.
GAP_MAX = 2
# The unit of the three costs below is the time to compute one DTW cell. `COMPARE_COST` is the cost
# of copying one point of a window into a lane, which a comparison needs. `BOUND_COST` is the cost
# of adding one point to a fine bound. `DEAL_COST` is the cost of copying one point into the row
# into which `window_preparation` deals it.
COMPARE_COST = 9
BOUND_COST, DEAL_COST = 1, 3
CHUNK = 32  # terms summed before it is checked whether the bounds of all windows exceed the limit

_SHAPE = Shape(FLOAT32, simd_registers.instruction_set().lanes(FLOAT32), 2)
LANES = _SHAPE.lanes * _SHAPE.rows  # windows whose bounds are computed at once
CHECK_WINDOWS = 16 * LANES  # windows between two checks of the stop flag
_keogh, _unmatched = emitted(emit_keogh, _SHAPE), emitted(emit_unmatched, _SHAPE)
_stopped = emitted(emit_stopped, _SHAPE)


class Selection(NamedTuple):
    """The candidates that `refine` chooses, and the strip at which its next call continues."""

    cursor: NDArray[np.int64]
    """Index of the history, and of its strip, that `refine` examines next; shape (2,)."""
    orders: NDArray[np.int64]
    """Numbers of the chosen candidates, ascending; shape (capacity,)."""
    bounds: NDArray[np.float32]
    """Coarse bounds of the chosen candidates, shape (capacity,)."""


class _Sources(NamedTuple):
    """The addresses of the arrays that `_sum` reads and writes, and the lengths of their rows.

    `_sum` is called for every vector of windows. If it took the arrays themselves, numba would pass
    about thirty numbers in each call. The addresses and lengths are only eight numbers.
    """

    points: Any
    """Address in `Room.space` of the value at which the first window of the block begins.

    The value is a point, or the mean of a segment if the bounds compare means.
    """
    highest: Any
    """Address in `Room.space` of the upper envelope: one value per point, or means of segments."""
    row: Any
    """Length of a row of `Room.space` in bytes."""
    lanes: Any
    """Address of `Room.lanes`."""
    row_of_lanes: Any
    """Length of a row of `Room.lanes` in bytes."""
    places: Any
    """Address of `Level.offsets`."""
    query: Any
    """Address of `Level.envelope`."""
    row_of_query: Any
    """Length of a row of `Level.envelope` in bytes."""


@inlined
def _sources(plan: Any, source: int, level: Any, room: Any) -> Any:
    """Return the addresses that `_sum` needs to compute the bounds of a block of windows.

    `source` is the result of `window_preparation.prepare`.
    """
    row, first = 4 * room.space.shape[1], room.space.ctypes.data
    points, lead = first + source * row, 0 if source == DEALT else plan.band
    return _Sources(
        points + 4 * lead, points + row, row, room.lanes.ctypes.data, 4 * room.lanes.shape[1],
        level.offsets.ctypes.data, level.envelope.ctypes.data, 4 * level.envelope.shape[1],
    )  # fmt: skip


@jit
def _sum(plan: Any, sources: Any, window: int, begin: int, end: int) -> Any:
    """Add the terms [begin, end) to the bounds of `LANES` windows, from number `window` on.

    Return whether any of these windows is still within its limit.
    """
    points, highest = sources.points + 4 * window, sources.highest + 4 * window
    lowest, of_window = highest + sources.row, sources.lanes + 4 * window
    places, query, width = sources.places, sources.query, sources.row_of_query
    row_of_lanes = sources.row_of_lanes
    if plan.lcss:
        return _unmatched(
            points, highest, lowest,
            places, query, query + width, query + 2 * width, begin, end,
            of_window + SLOPES * row_of_lanes, of_window + OFFSETS * row_of_lanes,
            of_window + FORWARD * row_of_lanes, of_window + BACKWARD * row_of_lanes,
            of_window + LIMITS * row_of_lanes, of_window + NOISES * row_of_lanes,
        )  # fmt: skip
    return _keogh(
        points, highest, lowest,
        places, query, query + width, query + 2 * width, begin, end,
        of_window + SLOPES * row_of_lanes, of_window + OFFSETS * row_of_lanes,
        of_window + FORWARD * row_of_lanes, of_window + BACKWARD * row_of_lanes,
        of_window + LIMITS * row_of_lanes,
    )  # fmt: skip


@jit
def bound_all(plan: Any, histories: Any, query: Any, level: Any, room: Any) -> None:
    """Compute the bounds of all windows, and write them to `histories`.

    `query` is the attribute `narrow` of the `query_profile.Profile`. `level` is its attribute
    `coarse`, the `query_profile.Level` that says which points or means each bound compares. `room`
    is the `window_preparation.Room` for the blocks. The function returns early if the search is
    stopped.
    """
    table, lanes, lows = histories.table, room.lanes, histories.lows
    for which in range(table.shape[0]):
        for first in range(0, table[which, COUNT], plan.windows):
            count = min(plan.windows, table[which, COUNT] - first)
            source = prepare(plan, table[which], first, count, query, level, room)
            if plan.lcss:
                _add_epsilon(plan.epsilon / plan.unit, lanes[NOISES])
            sources = _sources(plan, source, level, room)
            for window in range(0, count, LANES):
                if window % CHECK_WINDOWS == 0 and _stopped(plan.stop):
                    return
                begin = np.int64(0)  # for a literal 0 numba would compile `_sum` a second time
                _sum(plan, sources, window, begin, level.offsets.size)
            strip = histories.strips[which] + first // STRIP
            _note(plan, count, lanes, histories.bounds[strip * STRIP :], lows[strip:])


@inlined
def _add_epsilon(epsilon: float, noises: Any) -> None:
    for t in range(noises.size):
        noises[t] = (noises[t] + epsilon) * UP


@inlined
def _note(plan: Any, count: int, lanes: Any, bounds: Any, lows: Any) -> None:
    """Store the bounds of a block of `count` windows in `bounds`, the least per strip in `lows`.

    From a DTW bound the greatest possible rounding error is subtracted. An LCSS bound is a count,
    which has no rounding error.
    """
    share, shrink, zero = np.float32(plan.segment), np.float32(plan.shrink), np.float32(0.0)
    for t in range(count):
        most = max(lanes[FORWARD, t], lanes[BACKWARD, t])
        if not plan.lcss:
            most = np.sqrt(most * share) * shrink - lanes[NOISES, t]
        bounds[t] = most if most > zero else zero
    for begin in range(0, count, STRIP):
        least = np.float32(np.inf)
        for t in range(begin, begin + STRIP):
            if t >= count:
                bounds[t] = np.nan
            least = bounds[t] if bounds[t] < least else least
        lows[begin // STRIP] = least


def seeds(histories: Histories, wanted: int) -> NDArray[np.int64]:
    """Return the numbers of the candidates with the least bounds, at most `wanted` of them.

    The bounds of the returned candidates become NaN, so that they are not compared a second time.
    """
    # The windows nearest to the query are often neighbours, in one strip. So it is enough to choose
    # candidates from the strips with the least bounds: about half as many strips as `wanted`.
    bounds, lows = histories.bounds, histories.lows
    strip = min(wanted // 2, lows.size - 1)
    near = np.flatnonzero(lows <= value_of_rank(lows, strip))
    slots = (near[:, np.newaxis] * STRIP + np.arange(STRIP)).ravel()
    values = bounds[slots]
    within = values <= lows[near].max()
    slots = slots[within]
    if slots.size > wanted:
        values = values[within]
        slots = slots[values <= value_of_rank(values, wanted - 1)][:wanted]
    bounds[slots] = np.nan
    which = np.searchsorted(histories.strips, slots // STRIP, side="right") - 1
    begins: NDArray[np.int64] = histories.before[which] - histories.strips[which] * STRIP
    numbers: NDArray[np.int64] = begins + slots
    return numbers


@jit
def refine(
    plan: Any, histories: Any, query: Any, level: Any, room: Any, limit: float, selection: Any
) -> int:
    """Choose candidates that no bound rules out, until `selection` is full or none is left.

    `level` is the attribute `fine` of the `query_profile.Profile`. `bound_all` describes `query`
    and `room`. `limit` is the greatest distance of a wanted window. Return the number of chosen
    candidates. The function returns early if the search is stopped.
    """
    table, before, strips = histories.table, histories.before, histories.strips
    coarse, lows, lanes = histories.bounds, histories.lows, room.lanes
    places = level.offsets.size
    cursor, chosen, kept = selection.cursor, selection.orders, selection.bounds
    within, count = as_bound(plan, limit), 0
    while cursor[0] < table.shape[0]:
        which = cursor[0]
        near_lows = lows[strips[which] : strips[which + 1]]
        begin, end = _next_strips(near_lows, within, cursor[1], plan.windows // STRIP)
        if begin == end:
            cursor[0], cursor[1] = which + 1, 0
            continue
        if count + (end - begin) * STRIP > chosen.size:
            break
        cursor[1] = end
        first = begin * STRIP
        windows = min(end * STRIP, table[which, COUNT]) - first
        slot = (strips[which] + begin) * STRIP
        fine = plan.segment > 1 and _pays(plan, coarse[slot : slot + windows], within)
        if fine:
            source = prepare(plan, table[which], first, windows, query, level, room)
            sources = _sources(plan, source, level, room)
            _set_limits(plan, within, lanes)
        for window in range(0, windows, LANES):
            if window % CHECK_WINDOWS == 0 and _stopped(plan.stop):
                return count
            near = coarse[slot + window : slot + window + LANES]
            if not _any_within(near, within):
                continue
            if fine and not _sum_until(plan, sources, window, places):
                continue
            for t in range(LANES):
                chosen[count] = before[which] + first + window + t
                kept[count] = near[t]
                count += near[t] <= within and (not fine or _alive(lanes, window + t))
    return count


@inlined
def _next_strips(lows: Any, limit: Any, begin: int, most: int) -> Any:
    """Return the next range [begin, end) of strips that have a window within `limit`.

    The range has at most `most` strips. It may include up to `GAP_MAX` consecutive strips without
    such a window, because computing their bounds costs less than beginning a new block.
    """
    while begin < lows.size and not lows[begin] <= limit:
        begin += 1
    end = strip = begin
    while strip < min(lows.size, begin + most) and strip - end <= GAP_MAX:
        strip += 1
        if lows[strip - 1] <= limit:
            end = strip
    return begin, end


@inlined
def _any_within(values: Any, limit: Any) -> bool:
    for value in values:  # noqa: SIM110 - numba knows no `any` of a generator
        if value <= limit:
            return True
    return False


@inlined
def _set_limits(plan: Any, limit: Any, lanes: Any) -> None:
    """Write the limit for the sum of squares of each window to row `LIMITS` of `lanes`.

    `limit` is a limit for distances, in units of the plan. The limit for the sum is
    ``((limit + noise) * factor)**2``: the window's noise and the factor allow for rounding.
    """
    factor = np.float32(UP / plan.shrink)
    for t in range(lanes.shape[1]):
        most = (limit + lanes[NOISES, t]) * factor
        lanes[LIMITS, t] = most * most


@jit
def _sum_until(plan: Any, sources: Any, window: int, places: int) -> bool:
    """Sum fine bounds of `LANES` windows from number `window` on, until all exceed their limits.

    `places` is the number of terms of a bound. Return whether any window is within its limit at
    the end.
    """
    for begin in range(0, places, CHUNK):
        end = min(begin + CHUNK, places)
        if not _sum(plan, sources, window, begin, end):
            return False
    return True


@inlined
def _alive(lanes: Any, window: int) -> Any:
    return max(lanes[FORWARD, window], lanes[BACKWARD, window]) <= lanes[LIMITS, window]


@inlined
def _pays(plan: Any, bounds: Any, limit: Any) -> Any:
    """Return whether fine bounds of a block cost less than DTW of the windows that remain in it.

    Those are the windows whose coarse bound in `bounds` is within `limit`.
    """
    if limit == np.inf:
        return False
    within = 0
    for bound in bounds:
        within += bound <= limit
    return within * (2 * plan.band + COMPARE_COST) > bounds.size * (
        BOUND_COST + DEAL_COST * (plan.stride > 1)
    )
