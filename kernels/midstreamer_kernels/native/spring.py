"""SPRING for many patterns on one stream, point by point (`reference.spring` is the definition).

Each new point gives every pattern a new column of its cost matrix. All patterns have a column of
16-bit integers (`emit.spring.emit_filter`), which is a lower bound of the exact column. Only
patterns that this filter cannot rule out also have an exact column, in float64 with the starts of
the paths, in a *slot*. `monitor_plain_mode` assigns slots to patterns and takes slots away. It uses
two functions of this module for that. `oldest_start` finds where the oldest path begins that is
still within the threshold. `replay` computes the exact column after given points.

`advance` processes points until there is an event that `monitor_plain_mode` must handle. It reads
the addresses of its arrays from one record of the type `STATE`, and does not take the arrays as
arguments. The reason is that numba takes a fifth of a microsecond to pass one array. That is more
than the time to process one point for a hundred patterns.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import extending, types

from midstreamer_kernels.emit.spring import UINT16, emit_columns, emit_filter
from midstreamer_kernels.emit.vector_operations import FLOAT64, Shape
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.jit_decorators import jit
from midstreamer_kernels.native.simd_registers import instruction_set

carray: Any = numba.carray  # type: ignore[attr-defined]  # exported, but missing in its types

# The filter's loop handles two vectors at once. More would not hide more latency, because the loop
# mostly waits for memory.
_FILTER = Shape(UINT16, instruction_set().lanes(UINT16), 2)
_COLUMNS = Shape(FLOAT64, instruction_set().lanes(FLOAT64), 2, integers=False)
LANES = _FILTER.lanes * _FILTER.rows
SLOTS = _COLUMNS.lanes * _COLUMNS.rows
_filter_columns = emitted(emit_filter, _FILTER)
_exact_columns = emitted(emit_columns, _COLUMNS)

# Positions on a pattern's integer scale are from 1 to SCALE_MOST, so that a position minus 1 and
# plus 1 fits 16 bits.
SCALE_MOST = 65_534
# Relative tolerance for the rounding of costs, and of values on the patterns' integer scales. The
# relative rounding error of the cost of a path of a million cells is a tenth of this tolerance.
SLACK = 1e-9
# A pattern of m points gives up its exact column after ``REST_AFTER * m`` points of the stream
# without a match. To update an exact column takes a tenth of a microsecond per point of the stream.
# To begin an exact column takes as long as 1,000 updates. So a pattern that matches again within
# about 1,000 points should keep its column. For m = 128, ``REST_AFTER * m`` is about 1,000.
REST_AFTER = 8

_LANE_ARRAYS = ("cells", "points", "under", "over", "factors", "caps", "limits", "origins",
                "scales", "lane_lengths", "awake", "group_offsets", "group_rows")  # fmt: skip
_SLOT_ARRAYS = ("slot_cells", "slot_starts", "slot_points", "pending", "least", "best", "begins",
                "ends", "slot_lengths", "quiet_since", "slot_rows")  # fmt: skip
ARRAYS = (*_LANE_ARRAYS, *_SLOT_ARRAYS, "history", "events")
_NUMBERS = ("groups", "slot_groups", "rows", "first", "count", "found", "next_audit")
STATE = np.dtype(
    [(name, np.int64) for name in (*ARRAYS, *_NUMBERS)] + [("threshold_squared", np.float64)]
)

# Events of `advance`. WAKE: the filter cannot rule out that the pattern in a lane matches. CERTAIN:
# the match of the pattern in a slot is final. TIRED: the pattern in a slot, whose exact column is
# updated at every point, has had no match for `REST_AFTER` times its length.
WAKE, CERTAIN, TIRED = range(3)


def _pointer_to(item: Any) -> Any:
    def at(typing_context: Any, address: Any) -> Any:
        pointer: Any = types.CPointer(item)  # type: ignore[no-untyped-call]

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return pointer(address), emit

    intrinsic: Any = extending.intrinsic
    return intrinsic(at)


_float64_at = _pointer_to(types.float64)
_int64_at = _pointer_to(types.int64)
_uint16_at = _pointer_to(types.uint16)


@jit
def advance(states: Any, values: Any, begin: int) -> Any:
    """Process `values` from index `begin` on until there is an event or an audit is due.

    `monitor_plain_mode` says what an audit is. Return the index after the last processed value,
    with a minus sign if there is an event or an audit is due. `states` is an array with one record
    of the type `STATE`, whose history has room for all `values`.
    """
    state = states[0]
    history = carray(_float64_at(state.history), state.count - state.first + values.size)
    for index in range(begin, values.size):
        value = values[index]
        history[state.count - state.first] = value
        state.found = 0
        _advance_slots(state, value)
        _advance_filter(state, value)
        state.count += 1
        if state.found > 0 or state.count >= state.next_audit:
            return -(index + 1)
    return values.size


@jit
def _tell(state: Any, what: int, which: int) -> None:
    events = carray(_int64_at(state.events), 2 * state.found + 2)
    events[2 * state.found] = what
    events[2 * state.found + 1] = which
    state.found += 1


@jit
def positions(values: Any, origin: float, scale: float, target: Any) -> None:
    """Convert `values` to a pattern's integer scale, and write the results to `target`.

    The results, called positions, are from 1 to `SCALE_MOST`; values beyond the scale are clipped.
    """
    for place in range(values.size):
        target[place] = _position(values[place], origin, scale)


@jit
def _position(value: float, origin: float, scale: float) -> float:
    position = (value - origin) * scale + 1.0
    position = position if position > 1.0 else 1.0
    return position if position < SCALE_MOST else float(SCALE_MOST)


@jit
def _place(state: Any, value: float) -> None:
    """Write the arguments of the filter for the new point `value` to the arrays of `state`.

    The filter (`emit.spring.emit_filter`) takes two numbers per pattern. Let p be the new point,
    converted to the pattern's integer scale. Then ``state.under`` receives ``p - 1``, and
    ``state.over`` receives ``p + 1``.
    """
    lanes = state.groups * LANES
    origins = carray(_float64_at(state.origins), lanes)
    scales = carray(_float64_at(state.scales), lanes)
    under = carray(_uint16_at(state.under), lanes)
    over = carray(_uint16_at(state.over), lanes)
    for lane in range(lanes):
        position = np.int32(_position(value, origins[lane], scales[lane]))
        under[lane] = position - 1
        over[lane] = position + 1


@jit
def _advance_filter(state: Any, value: float) -> None:
    _place(state, value)
    offsets = carray(_int64_at(state.group_offsets), state.groups)
    rows = carray(_int64_at(state.group_rows), state.groups)
    for group in range(state.groups):
        first, begin = 2 * group * LANES, 2 * offsets[group]
        found = _filter_columns(
            state.cells + begin, state.points + begin, state.under + first, state.over + first,
            state.factors + first, state.caps + first, state.limits + first, abs(rows[group]),
        )  # fmt: skip
        if found or rows[group] < 0:
            _look_at(state, group, offsets[group], abs(rows[group]))


@jit
def _look_at(state: Any, group: int, offset: int, rows: int) -> None:
    """Add a WAKE event for each pattern in a group that must now get an exact column.

    Such a pattern has no exact column yet. In its column of the filter, the cell of the last
    pattern point is at most the pattern's element of ``state.limits``.
    """
    cells = carray(_uint16_at(state.cells + 2 * offset), rows * LANES)
    limits = carray(_uint16_at(state.limits + 2 * group * LANES), LANES)
    lengths = carray(_int64_at(state.lane_lengths + 8 * group * LANES), LANES)
    awake = carray(_int64_at(state.awake + 8 * group * LANES), LANES)
    for lane in range(LANES):
        last = lengths[lane] - 1
        if last >= 0 and awake[lane] == 0 and cells[last * LANES + lane] <= limits[lane]:
            _tell(state, WAKE, group * LANES + lane)


@jit
def _advance_slots(state: Any, value: float) -> None:
    rows = carray(_int64_at(state.slot_rows), state.slot_groups)
    for group in range(state.slot_groups):
        if rows[group] == 0:
            continue
        first, begin = 8 * group * SLOTS, 8 * group * SLOTS * state.rows
        _exact_columns(
            state.slot_cells + begin, state.slot_starts + begin, state.slot_points + begin,
            value, state.count, state.ends + first, state.pending + first, state.least + first,
            rows[group],
        )  # fmt: skip
        for slot in range(group * SLOTS, group * SLOTS + SLOTS):
            _judge(state, slot, group, slot - group * SLOTS)


@jit
def _judge(state: Any, slot: int, group: int, lane: int) -> None:
    """Update the best match of the pattern whose exact column is in `slot`.

    Add an event if the match is final, or if there was no match for `REST_AFTER` times the length
    of the pattern.
    """
    last = carray(_int64_at(state.slot_lengths), slot + 1)[slot] - 1
    if last < 0:
        return
    place = (group * state.rows + last) * SLOTS + lane
    cost = carray(_float64_at(state.slot_cells), place + 1)[place]
    ends = carray(_int64_at(state.ends), slot + 1)
    best = carray(_float64_at(state.best), slot + 1)
    quiet_since = carray(_int64_at(state.quiet_since), slot + 1)
    if ends[slot] > 0 and carray(_float64_at(state.pending), slot + 1)[slot] >= best[slot]:
        _tell(state, CERTAIN, slot)
    elif cost <= state.threshold_squared:
        quiet_since[slot] = state.count
        if cost < best[slot]:
            best[slot], ends[slot] = cost, state.count + 1
            starts = carray(_int64_at(state.slot_starts), place + 1)
            carray(_int64_at(state.begins), slot + 1)[slot] = starts[place]
            if carray(_float64_at(state.least), slot + 1)[slot] >= cost:
                _tell(state, CERTAIN, slot)
    elif ends[slot] == 0 and state.count - quiet_since[slot] > REST_AFTER * (last + 1):
        _tell(state, TIRED, slot)


@jit
def replay(
    pattern: Any, values: Any, position: int, threshold_squared: float, cells: Any, starts: Any,
    match: Any,
) -> Any:  # fmt: skip
    """Fill `cells` and `starts` with the exact column of `pattern` after the points `values`.

    `position` is the position of the first value in the stream. Return the squared cost of the best
    match so far, or infinity if there is none. ``match[0]`` and ``match[1]`` receive its start and
    end. ``match[2]`` is 1 if the match is final; then processing stopped at the point that made it
    final, and the column is the one after that point.
    """
    best = np.inf
    match[:] = 0
    for place in range(pattern.size):
        cells[place] = np.inf
        starts[place] = -1
    for index in range(values.size):
        pending, least = _column(pattern, values[index], position + index, cells, starts, match[1])
        cost, start = cells[pattern.size - 1], starts[pattern.size - 1]
        if match[1] > 0 and pending >= best:
            match[2] = 1
            return best
        if cost <= threshold_squared and cost < best:
            best = cost
            match[0], match[1] = start, position + index + 1
            if least >= best:
                match[2] = 1
                return best
    return best


@jit
def _column(pattern: Any, value: float, position: int, cells: Any, starts: Any, end: int) -> Any:
    """Update `cells` and `starts` with the column after one more point, `value` at `position`.

    Return the least cell whose path starts before `end`, and the least of all cells.
    """
    below, below_start = 0.0, position
    diagonal, diagonal_start = 0.0, position
    pending = least = np.inf
    for place in range(pattern.size):
        left, left_start = cells[place], starts[place]
        best, start = left, left_start
        if diagonal <= best:
            best, start = diagonal, diagonal_start
        if below <= best:
            best, start = below, below_start
        step = value - pattern[place]
        below, below_start = step * step + best, start
        cells[place], starts[place] = below, start
        diagonal, diagonal_start = left, left_start
        least = below if below < least else least
        if start < end and below < pending:
            pending = below
    return pending, least


@jit
def oldest_start(pattern: Any, values: Any, limit: float, cells: Any) -> Any:
    """Return an index of `values` such that all paths within `limit` begin there or later.

    `limit` is a squared cost. A path ends at the last of the `values`, at any pattern point.
    The cost matrix is computed backwards from the last column until all cells exceed `limit`. The
    result is 0 if paths may also begin before `values`.
    """
    for place in range(pattern.size):
        step = values[values.size - 1] - pattern[place]
        cells[place] = step * step
    index = values.size - 2
    while index >= 0:
        value = values[index]
        alive, changed = _column_back(pattern, value, limit, cells)
        if not alive:
            return index + 1
        index -= 1
        if not changed:  # further equal values leave the column unchanged, so skip them
            while index >= 0 and values[index] == value:
                index -= 1
    return 0


@jit
def _column_back(pattern: Any, value: float, limit: float, cells: Any) -> Any:
    above = diagonal = np.inf
    alive = changed = False
    for place in range(pattern.size - 1, -1, -1):
        right = cells[place]
        best = right
        best = diagonal if diagonal < best else best
        best = above if above < best else best
        step = value - pattern[place]
        above = step * step + best
        diagonal = right
        cells[place] = above
        alive = alive or above <= limit
        changed = changed or above != right
    return alive, changed
