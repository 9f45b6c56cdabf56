"""Preparation of a block of neighbouring windows for lower bounds, in float32.

For z-normalised windows, the points of a block are taken relative to the block's first point, and
divided by the greatest such difference. So points far from zero lose no digits in float32, and no
square overflows. A slope and an offset per window then make its points z-normal. For windows that
are not normalised, the fields `origin` and `unit` of `query_profile.PLAN` are used instead.

Besides its points, a block holds their maxima and minima within the band (the windows' envelopes)
and, for the coarse bound, means of several points. Maxima and means of 2**n points are computed by
doubling, in n vectorised passes over the block.

Windows begin `step` points apart. If `step` is greater than 1, the points of all windows at one
offset are not adjacent in memory. The points are then dealt into rows: point i goes to row
``i % step``, so that these points are adjacent again. If `step` is greater than ``m + 2 * band``,
there are points between the windows that no window needs, not even for its envelope. Then each
window is first copied next to the previous window, with `band` points before and after it, and
``m + 2 * band`` takes the place of `step`.

The caller owns the arrays (`Room`), which are reused for the next block. Loops over points or
windows are emitted (`emit.window_preparation`); the functions here only compute addresses, so numba
compiles these functions quickly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.emit.bounds import emit_halfway, emit_highest, emit_lowest
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.emit.window_preparation import (
    CLIP,
    emit_corners,
    emit_deal,
    emit_farthest,
    emit_narrow,
    emit_scales,
    emit_value,
)
from midstreamer_kernels.native import simd_registers
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.jit_decorators import inlined, jit
from midstreamer_kernels.search_inputs import COUNT, FIRST, ITEM_BYTES, SCALE, SHIFT, VALUES

# Greatest slope, the factor that makes the points of a window z-normal. A window that needs a
# greater factor is too flat for bounds in float32.
SLOPE_MAX = 1e6
# Least range by which the points of a block are divided. The points of a block with a smaller range
# become 0, because the reciprocal of its range may be infinite.
RANGE_MIN = 1e-290

# Row numbers of `Room.space`. Row `POINTS` holds the points of the block, and row `MEANS` the means
# of segments. If the plan's `stride` is greater than 1, row `DEALT` holds the values that the
# bounds read (points, or means), ordered by their index modulo `stride`. After each of these three
# rows come two rows with the upper and the lower envelope in the same form.
POINTS, MEANS, DEALT, SPACE_ROWS = 0, 3, 6, 9
# Row numbers of `Room.lanes`, whose rows have one element per window.
SLOPES, OFFSETS, NOISES, FORWARD, BACKWARD, LIMITS, LANE_ROWS = range(7)

LANES = simd_registers.instruction_set().lanes(FLOAT32)
_SINGLE, _DOUBLE = (Shape(number, LANES, 1) for number in (FLOAT32, FLOAT64))
_highest, _lowest, _halfway, _deal_row, _corners = (
    emitted(emit, _SINGLE)
    for emit in (emit_highest, emit_lowest, emit_halfway, emit_deal, emit_corners)
)
_farthest_32, _narrow_32, _scales_32, _value_32 = (
    emitted(emit, _SINGLE) for emit in (emit_farthest, emit_narrow, emit_scales, emit_value)
)
_farthest_64, _narrow_64, _scales_64, _value_64 = (
    emitted(emit, _DOUBLE) for emit in (emit_farthest, emit_narrow, emit_scales, emit_value)
)


class Room(NamedTuple):
    """The arrays of a block, reused for all blocks of a search."""

    space: Any
    """The points of the block in three forms, each with its two envelopes.

    Shape (SPACE_ROWS, elements), float32. The constants `POINTS`, `MEANS` and `DEALT` are the row
    numbers of the three forms.
    """
    lanes: Any
    """Slopes, offsets, noises, sums and limits of the windows, shape (LANE_ROWS, windows), float32.

    The rows are numbered by the constants from `SLOPES` to `LIMITS`.
    """


def room(plan: NDArray[Any]) -> Room:
    """Return the arrays that the blocks of a search with `plan` use."""
    return Room(
        np.zeros((SPACE_ROWS, int(plan["size"][0])), np.float32),
        np.zeros((LANE_ROWS, int(plan["windows"][0])), np.float32),
    )


@jit
def prepare(plan: Any, row: Any, first: int, count: int, query: Any, level: Any, room: Any) -> int:
    """Prepare the block of `count` candidates of one history, from candidate `first` on.

    `row` is the history's row in the table that `midstreamer_kernels.search_inputs` describes.
    `level` is the `query_profile.Level` of the bounds that will be computed. `room` receives the
    block. Return the number of the row of ``room.space`` that is the input of the bounds: `POINTS`,
    `MEANS` or `DEALT`. In row `DEALT` the first window of the block begins at element 0. In the
    other two rows it begins at element number ``plan.band``.
    """
    space, lanes, segment = room.space, room.lanes, level.segment
    begin = row[FIRST] + first * plan.step
    pitch, pitch_of_lanes = 4 * space.shape[1], 4 * lanes.shape[1]
    points, of_lanes = space.ctypes.data, lanes.ctypes.data
    origin = value_at(row, begin) if plan.normalized else plan.origin
    size, most = _read(plan, row, begin, count, origin, space)
    _scale(plan, row, begin, count, origin, most, lanes)
    share, start = np.float32(1.0 / segment), points + 4 * plan.band
    _corners(
        start, start + 4 * (plan.m - 1), plan.stride, count, query[0], query[plan.m - 1],
        share * (plan.corners > 0), share * (plan.corners > 1),
        of_lanes + SLOPES * pitch_of_lanes, of_lanes + OFFSETS * pitch_of_lanes,
        of_lanes + FORWARD * pitch_of_lanes, of_lanes + BACKWARD * pitch_of_lanes,
    )  # fmt: skip
    _envelopes(points, pitch, size, plan.band)
    source = POINTS
    if segment > 1:
        source = MEANS
        _means(points, pitch, size, segment)
    if plan.stride > 1:
        _deal(plan, points, pitch, source, level.rows, count)
        source = DEALT
    return source


@inlined
def _read(plan: Any, row: Any, begin: int, count: int, origin: float, space: Any) -> Any:
    """Copy the points of the windows, and `band` points more on either side, to `space` as float32.

    A search may be limited to a part of the history. Points before that part are replaced by its
    first point, and points after it by its last point. Return the number of points, and the
    greatest absolute difference of a point from `origin`.
    """
    span = plan.m + 2 * plan.band
    reach = (count - 1) * plan.step + span
    low, high = row[FIRST], row[FIRST] + (row[COUNT] - 1) * plan.step + plan.m
    begin -= plan.band
    lowest, highest = max(begin, low), min(begin + reach, high)
    narrow, address = row[ITEM_BYTES] == 4, row[VALUES] + row[ITEM_BYTES] * lowest
    points = space.ctypes.data
    if narrow:
        most = _farthest_32(address, highest - lowest, origin)
    else:
        most = _farthest_64(address, highest - lowest, origin)
    factor = 1.0 / plan.unit
    if plan.normalized:
        factor = 1.0 / most if most > RANGE_MIN else 0.0
    parts, length = (1, reach) if plan.stride == plan.step else (count, span)
    for part in range(parts):
        lowest = max(begin, low)
        highest = min(begin + length, high)
        address, target = row[VALUES] + row[ITEM_BYTES] * lowest, part * length + lowest - begin
        if narrow:
            _narrow_32(address, points + 4 * target, highest - lowest, origin, factor)
        else:
            _narrow_64(address, points + 4 * target, highest - lowest, origin, factor)
        for t in range(part * length, target):
            space[POINTS, t] = space[POINTS, target]
        for t in range(target + highest - lowest, (part + 1) * length):
            space[POINTS, t] = space[POINTS, target + highest - lowest - 1]
        begin += plan.step
    return parts * length, most


@inlined
def value_at(row: Any, begin: int) -> Any:
    """Return point `begin` of the history in `row`, as float64."""
    address = row[VALUES] + row[ITEM_BYTES] * begin
    return _value_32(address) if row[ITEM_BYTES] == 4 else _value_64(address)


@inlined
def _scale(
    plan: Any, row: Any, begin: int, count: int, origin: float, most: float, lanes: Any
) -> None:
    if not plan.normalized:
        noise = min(most / plan.unit, CLIP) * plan.noise_slope + plan.noise
        for t in range(count):
            lanes[SLOPES, t], lanes[OFFSETS, t], lanes[NOISES, t] = 1.0, 0.0, noise
        return
    pitch = 4 * lanes.shape[1]
    slopes = lanes.ctypes.data + SLOPES * pitch
    offsets, noises = slopes + (OFFSETS - SLOPES) * pitch, slopes + (NOISES - SLOPES) * pitch
    values, shift = row[VALUES] + row[ITEM_BYTES] * begin, row[SHIFT] + 8 * begin
    scale, blind = row[SCALE] + 8 * begin, SLOPE_MAX if most > RANGE_MIN else 0.0
    if row[ITEM_BYTES] == 4:
        _scales_32(
            values, shift, scale, plan.step, count, origin, most, blind, plan.noise_slope,
            plan.noise, slopes, offsets, noises,
        )  # fmt: skip
    else:
        _scales_64(
            values, shift, scale, plan.step, count, origin, most, blind, plan.noise_slope,
            plan.noise, slopes, offsets, noises,
        )  # fmt: skip


@inlined
def _envelopes(points: int, pitch: int, size: int, band: int) -> None:
    """Fill two rows of `Room.space` with the upper and the lower envelope of the points.

    They are the two rows after the row of points. Element i is the maximum or the minimum of the
    ``2 * band + 1`` points from point i on. `points` is the address of the row of points, which has
    `size` points, and `pitch` the length of a row in bytes.
    """
    passes, reach = 1, 2
    while reach < 2 * band + 1:
        passes, reach = passes + 1, 2 * reach
    for number in range(1, 3):
        # A pass that overwrites its own input would take seven times as long. So the passes write
        # to two rows in turn. The first row is chosen such that the last pass fills the wanted row.
        source, target, other = points, points + number * pitch, points + DEALT * pitch
        if passes % 2 == 0:
            target, other = other, target
        reach = 1
        for _ in range(passes):
            gap = min(reach, 2 * band + 1 - reach)
            if number == 1:
                _highest(source, target, gap, size - gap)
            else:
                _lowest(source, target, gap, size - gap)
            source, target, other = target, other, target
            reach += gap


@inlined
def _means(points: int, pitch: int, size: int, length: int) -> None:
    for number in range(3):
        source, target = points + number * pitch, points + (MEANS + number) * pitch
        gap = 1
        while gap < length:
            _halfway(source, target, gap, size - gap)
            source = target
            gap *= 2


@inlined
def _deal(plan: Any, points: int, pitch: int, source: int, rows: Any, count: int) -> None:
    width = count + (plan.m - 1) // plan.stride
    for number in range(3):
        cards = points + (source + number) * pitch + (4 * plan.band if number == 0 else 0)
        target = points + (DEALT + number) * pitch
        for residue in rows:
            _deal_row(cards + 4 * residue, target + 4 * residue * plan.row, plan.stride, width)
