"""A block of neighbouring windows made ready for bounds: float32, with room to read in lanes.

The points of a block are measured from its first one and divided by their range, so that a high
level costs no digits and no square overflows; each window then has a slope and an offset that make
them z-normal. Beside the points lie the extremes within the band of each (the windows' envelopes)
and, for the coarse level, means of runs of points. Maxima and means of 2**n points are made by
doubling: n passes of vectors over the block.

Windows `step` points apart are not neighbours in memory. The points are then dealt out like cards:
point i goes to row ``i % step``, so that the points of all windows at one place lie side by side
again. Windows further apart than they and their envelopes are long are moved together first.

The arrays are the caller's (`room`) and are used again for the next block. What loops over points
or windows is emitted (`emit.block`); here addresses are computed, which numba compiles quickly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.emit.block import (
    CLIP,
    emit_corners,
    emit_deal,
    emit_farthest,
    emit_narrow,
    emit_scales,
    emit_value,
)
from midstreamer_kernels.emit.bounds import emit_halfway, emit_highest, emit_lowest
from midstreamer_kernels.emit.values import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.native import machine
from midstreamer_kernels.native.compiling import inlined, jit
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.plan import COUNT, FIRST, ITEM_BYTES, SCALE, SHIFT, VALUES

SLOPE_MAX = 1e6  # a window this much flatter than its block has no digits left in float32
RANGE_MIN = 1e-290  # one over a range below this may be infinite

# Rows of `space`, each with the highest and the lowest in the two rows after it.
POINTS, MEANS, DEALT, SPACE_ROWS = 0, 3, 6, 9
# Rows of `lanes`, an element for each window.
SLOPES, OFFSETS, NOISES, FORWARD, BACKWARD, LIMITS, LANE_ROWS = range(7)

LANES = machine.instruction_set().lanes(FLOAT32)
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


def room(plan: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the arrays `space` and `lanes` for blocks of this plan."""
    return (
        np.zeros((SPACE_ROWS, int(plan["size"][0])), np.float32),
        np.zeros((LANE_ROWS, int(plan["windows"][0])), np.float32),
    )


@jit
def prepare(
    plan: Any, row: Any, first: int, count: int, query: Any, segment: int, dealt_rows: Any,
    space: Any, lanes: Any,
) -> int:  # fmt: skip
    """Make `count` windows ready: a run's candidates from number `first` on.

    Returns the row of `space` from which to read bounds; in it the first window begins after
    `band` elements unless points were dealt.
    """
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
        _deal(plan, points, pitch, source, dealt_rows, count)
        source = DEALT
    return source


@inlined
def _read(plan: Any, row: Any, begin: int, count: int, origin: float, space: Any) -> Any:
    """Read the windows' points and `band` more on either side; past the run's ends, the last.

    Returns how many, and the range in which they are measured.
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
    """Return a point of a run's history."""
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
    """Fill the rows after the points with the extremes of ``2 * band + 1`` points from each on."""
    passes, reach = 1, 2
    while reach < 2 * band + 1:
        passes, reach = passes + 1, 2 * reach
    for number in range(1, 3):
        # Back and forth between two rows, so that the last pass fills the row wanted. In place each
        # pass takes seven times as long.
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
