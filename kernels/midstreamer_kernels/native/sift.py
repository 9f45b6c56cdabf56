"""Which windows need comparing: lower bounds in lanes, coarse for all, fine for the few left.

Bounds are kept as distances in units with rounding already taken off, so that they are compared
with the k-th best as they are; for LCSS as counts. `bounds` has `STRIP` places for each strip of
windows of a run, in the order of the table, and `lows` the least of each strip. NaN stands where
there is nothing to compare (any more): it is within no limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.emit.bounds import emit_keogh, emit_unmatched
from midstreamer_kernels.emit.stopping import emit_stopped
from midstreamer_kernels.emit.values import FLOAT32, Shape
from midstreamer_kernels.native import machine
from midstreamer_kernels.native.block import (
    BACKWARD,
    DEALT,
    FORWARD,
    LIMITS,
    NOISES,
    OFFSETS,
    SLOPES,
    prepare,
)
from midstreamer_kernels.native.compiling import inlined, jit
from midstreamer_kernels.native.contest import UP, as_bound
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.profile import STRIP
from midstreamer_kernels.plan import COUNT

GAP_MAX = 2  # strips made ready for nothing rather than begin anew
COMPARE_COST = 9  # to put a point into a lane, in cells of a comparison
BOUND_COST, DEAL_COST = 1, 3  # of the fine bound of a point, and to deal it out, likewise
CHUNK = 32  # places between two looks whether a vector of windows is too far

_SHAPE = Shape(FLOAT32, machine.instruction_set().lanes(FLOAT32), 2)
LANES = _SHAPE.lanes * _SHAPE.rows  # windows bounded together
CHECK_WINDOWS = 16 * LANES  # between two looks at the flag that ends the search
_keogh, _unmatched = emitted(emit_keogh, _SHAPE), emitted(emit_unmatched, _SHAPE)
_stopped = emitted(emit_stopped, _SHAPE)


@jit
def _sum(
    plan: Any, source: int, window: int, begin: int, end: int, offsets: Any, around: Any,
    space: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Add the places [begin, end) to the bounds of the vector of windows that begins at `window`.

    Returns whether any is still within its limit.
    """
    lead = window + (0 if source == DEALT else plan.band)
    row, row_of_lanes = 4 * space.shape[1], 4 * lanes.shape[1]
    points, of_window = space.ctypes.data + source * row, lanes.ctypes.data + 4 * window
    places, query, width = offsets.ctypes.data, around.ctypes.data, 4 * around.shape[1]
    if plan.lcss:
        return _unmatched(
            points + 4 * lead, points + row + 4 * window, points + 2 * row + 4 * window,
            places, query, query + width, query + 2 * width, begin, end,
            of_window + SLOPES * row_of_lanes, of_window + OFFSETS * row_of_lanes,
            of_window + FORWARD * row_of_lanes, of_window + BACKWARD * row_of_lanes,
            of_window + LIMITS * row_of_lanes, of_window + NOISES * row_of_lanes,
        )  # fmt: skip
    return _keogh(
        points + 4 * lead, points + row + 4 * window, points + 2 * row + 4 * window,
        places, query, query + width, query + 2 * width, begin, end,
        of_window + SLOPES * row_of_lanes, of_window + OFFSETS * row_of_lanes,
        of_window + FORWARD * row_of_lanes, of_window + BACKWARD * row_of_lanes,
        of_window + LIMITS * row_of_lanes,
    )  # fmt: skip


@jit
def bound_all(
    plan: Any, table: Any, strips: Any, query: Any, offsets: Any, around: Any, rows: Any,
    space: Any, lanes: Any, bounds: Any, lows: Any,
) -> None:  # fmt: skip
    """Fill the coarse bounds of all windows, and the least of each strip.

    Leaves early when the search is stopped.
    """
    for which in range(table.shape[0]):
        for first in range(0, table[which, COUNT], plan.windows):
            count = min(plan.windows, table[which, COUNT] - first)
            source = prepare(
                plan, table[which], first, count, query, plan.segment, rows, space, lanes
            )
            if plan.lcss:
                _add_epsilon(plan.epsilon / plan.unit, lanes[NOISES])
            for window in range(0, count, LANES):
                if window % CHECK_WINDOWS == 0 and _stopped(plan.stop):
                    return
                begin = np.int64(0)  # a literal would have the function compiled once more
                _sum(plan, source, window, begin, offsets.size, offsets, around, space, lanes)
            strip = strips[which] + first // STRIP
            _note(plan, count, lanes, bounds[strip * STRIP :], lows[strip:])


@inlined
def _add_epsilon(epsilon: float, noises: Any) -> None:
    for t in range(noises.size):
        noises[t] = (noises[t] + epsilon) * UP


@inlined
def _note(plan: Any, count: int, lanes: Any, bounds: Any, lows: Any) -> None:
    """Keep the bounds of a block."""
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


def seeds(
    strips: NDArray[np.int64],
    before: NDArray[np.int64],
    wanted: int,
    bounds: NDArray[np.float32],
    lows: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Take out the candidates with the least bounds, `wanted` or fewer; return their numbers."""
    # Near windows come in rows: half as many strips as windows wanted have enough of them.
    strip = min(wanted // 2, lows.size - 1)
    near = np.flatnonzero(lows <= np.partition(lows, strip)[strip])
    slots = (near[:, np.newaxis] * STRIP + np.arange(STRIP)).ravel()
    values = bounds[slots]
    slots = slots[values <= lows[near].max()]
    if slots.size > wanted:
        values = bounds[slots]
        slots = slots[values <= np.partition(values, wanted - 1)[wanted - 1]][:wanted]
    bounds[slots] = np.nan
    which = np.searchsorted(strips, slots // STRIP, side="right") - 1
    numbers: NDArray[np.int64] = before[which] + slots - strips[which] * STRIP
    return numbers


@jit
def refine(
    plan: Any, table: Any, strips: Any, before: Any, query: Any, offsets: Any, around: Any,
    rows: Any, space: Any, lanes: Any, bounds: Any, lows: Any,
    limit: float, cursor: Any, chosen: Any, kept: Any,
) -> int:  # fmt: skip
    """Choose the candidates that no bound rules out, until `chosen` is full or all are seen.

    `cursor` is where to go on: a row of the table and a strip of it. Fills the candidates'
    numbers and coarse bounds; returns how many. Leaves early when the search is stopped.
    """
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
        fine = plan.segment > 1 and _pays(plan, bounds[slot : slot + windows], within)
        if fine:
            segment = np.int64(1)  # a literal would have the function compiled once more
            source = prepare(plan, table[which], first, windows, query, segment, rows, space, lanes)
            _set_limits(plan, within, lanes)
        for window in range(0, windows, LANES):
            if window % CHECK_WINDOWS == 0 and _stopped(plan.stop):
                return count
            near = bounds[slot + window : slot + window + LANES]
            if not _any_within(near, within):
                continue
            if fine and not _sum_until(plan, source, window, offsets, around, space, lanes):
                continue
            for t in range(LANES):
                chosen[count] = before[which] + first + window + t
                kept[count] = near[t]
                count += near[t] <= within and (not fine or _alive(lanes, window + t))
    return count


@inlined
def _next_strips(lows: Any, limit: Any, begin: int, most: int) -> Any:
    """Return the next strips from `begin` on that have a window within `limit`, at most `most`.

    Strips between two of them come along where that costs less than to begin anew.
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
    """Fill the sums that windows may have and still be within `limit`, rounding considered."""
    factor = np.float32(UP / plan.shrink)
    for t in range(lanes.shape[1]):
        most = (limit + lanes[NOISES, t]) * factor
        lanes[LIMITS, t] = most * most


@jit
def _sum_until(
    plan: Any, source: int, window: int, offsets: Any, around: Any, space: Any, lanes: Any
) -> bool:
    """Sum the fine bounds of a vector of windows as long as any is within its limit."""
    for begin in range(0, offsets.size, CHUNK):
        end = min(begin + CHUNK, offsets.size)
        if not _sum(plan, source, window, begin, end, offsets, around, space, lanes):
            return False
    return True


@inlined
def _alive(lanes: Any, window: int) -> Any:
    return max(lanes[FORWARD, window], lanes[BACKWARD, window]) <= lanes[LIMITS, window]


@inlined
def _pays(plan: Any, bounds: Any, limit: Any) -> Any:
    """Tell whether fine bounds of so many windows cost less than to compare those within."""
    if limit == np.inf:
        return False
    within = 0
    for bound in bounds:
        within += bound <= limit
    return within * (2 * plan.band + COMPARE_COST) > bounds.size * (
        BOUND_COST + DEAL_COST * (plan.stride > 1)
    )
