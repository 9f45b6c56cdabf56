"""A query made ready for a scan: its z-normal form, its envelope, and what rounding may cost.

The bounds of `emit.bounds` are summed over places, on two levels:

- *Coarse*: the means of runs of 2**n points, 15 to 30 of them. Every window gets this bound.
- *Fine*: every point, in an order that visits all parts of the window early. Only windows that the
  coarse level does not rule out get this one.

The first and the last point of a window meet the query's first and last on every path, so for DTW
these two pairs count in full, and the places lie between them. LCSS may leave any point without a
partner: there both levels are the same, all points, and count those that match none.

Bounds are computed in float32, in `unit`s, from values counted from `origin`. How far rounding may
take them, in short (u = 2**-24, |point| <= 1 within a block, slope a, query q):

- a point carries u, a mean of 2**n of them (1 + n) u, the slope, the product, the offset
  (|offset| <= a, for a mean lies between the extremes) and the difference, at most 2 a, another
  5 u a; the difference to the envelope and the query's own rounding stay below 2 (2 a + |q|) u;
- so an excess is off by less than ``E = u ((10 + n) a + 4 |q|)``, and the root of the summed
  squares of m excesses by less than ``sqrt(m) E``, by the triangle inequality; adding m squares
  shrinks or grows the sum by less than (m + 8) u of itself.

Twice that is taken off. A window is ruled out only when its bound is too far even then.

Built with numpy, a hundred microseconds, since compiling it would take seconds.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.forms import envelope_of, normal_form

SPARE = 2.0**-23  # twice the rounding of one float32 operation
TINY = 1e-15  # above what is lost where squares are too small for float32, in units
UNIT_MIN = 1e-30
SEGMENTS_MIN = 15
SPREAD = 8  # the fine level visits every 8th place first

STRIP = 64  # windows that are passed over together when none of them is near enough
POINTS_MIN = 1024  # points that begin a window of one block, where windows are not longer
OVERRUN = 64  # elements that a vector may read beyond the last window

PLAN = np.dtype(  # what the compiled functions are told, by name
    [
        ("k", "i8"),  # matches wanted
        ("m", "i8"),  # points of the query
        ("band", "i8"),
        ("step", "i8"),  # points from one candidate to the next
        ("normalized", "i8"),
        ("lcss", "i8"),
        ("corners", "i8"),  # pairs that count in full: the first, the first and the last, or none
        ("segment", "i8"),  # points of a coarse place
        ("windows", "i8"),  # candidates of a block
        ("stride", "i8"),  # points from one candidate to the next in a block
        ("size", "i8"),  # elements of a row of a block
        ("row", "i8"),  # elements of a dealt row
        ("origin", "f8"),
        ("unit", "f8"),
        ("shrink", "f8"),  # what a bound keeps of itself whatever its sum was rounded by
        ("noise_slope", "f8"),  # a bound's noise is noise_slope * slope + noise
        ("noise", "f8"),
        ("filter_factor", "f8"),  # a distance in float32 is at most factor * exact + noise
        ("filter_noise", "f8"),
        ("epsilon", "f8"),
        ("cutoff", "f8"),
        ("stop", "i8"),  # address of the flag that ends the search
    ]
)


class Level(NamedTuple):
    """Places at which excesses are summed, as they lie in a block, and the query there."""

    offsets: NDArray[np.int64]
    """Elements from a window's first to its element at each place."""
    envelope: NDArray[np.float32]
    """Shape (3, places): the query, the highest and the lowest around."""
    rows: NDArray[np.int64]
    """The dealt rows that hold the places; see `block`."""


class Profile(NamedTuple):
    """A query, ready."""

    plan: NDArray[Any]
    """One `PLAN`."""
    query: NDArray[np.float64]
    """As it is compared."""
    narrow: NDArray[np.float32]
    """The same in units, counted from the origin."""
    coarse: Level
    fine: Level


def profile_of(
    raw: NDArray[np.float64],
    *,
    k: int,
    step: int,
    band: int,
    normalized: bool,
    lcss: bool,
    epsilon: float,
    cutoff: float,
    stop: int,
) -> Profile:
    """Return the profile of a query given as it came, shape (m,)."""
    m = raw.size
    query = normal_form(raw) if normalized else raw
    origin = 0.0 if normalized else float(raw[0])
    unit = 1.0 if normalized else float(np.abs(raw - origin).max())
    unit = unit if unit > UNIT_MIN else 1.0
    inner = (query - origin) / unit
    corners = 0 if lcss else min(m, 2)
    segment = 1
    while not lcss and (m - 2) // (2 * segment) >= SEGMENTS_MIN:
        segment *= 2
    plan = np.zeros(1, PLAN)
    plan["k"] = k
    _set_sizes(plan, m, band, step)
    spread = SPARE if lcss else SPARE * np.sqrt(m)
    plan["corners"], plan["segment"] = corners, segment
    plan["normalized"], plan["lcss"] = normalized, lcss
    plan["origin"], plan["unit"], plan["shrink"] = origin, unit, 1.0 - (m + 8) * SPARE
    plan["noise_slope"] = spread * (10.0 + np.log2(segment))
    plan["noise"] = spread * 4.0 * np.abs(inner).max() + TINY
    plan["filter_factor"] = 1.0 + (2 * m + 8) * SPARE
    plan["filter_noise"] = np.sqrt(2.0 * m) * 2.0 * SPARE * np.abs(inner).max() + TINY
    plan["epsilon"], plan["cutoff"], plan["stop"] = epsilon, cutoff, stop
    around = np.stack([inner, *envelope_of(inner, band, m)])[:, min(corners, 1) : m - corners // 2]
    coarse = _level(around, min(corners, 1), segment, plan)
    fine = coarse if segment == 1 else _level(around, min(corners, 1), 1, plan)
    return Profile(plan, query, inner.astype(np.float32), coarse, fine)


def _set_sizes(plan: NDArray[Any], m: int, band: int, step: int) -> None:
    """Say how long a block is; see `block`."""
    span = m + 2 * band
    stride = min(step, span)
    windows = STRIP * max(1, max(POINTS_MIN, span) // (stride * STRIP))
    row = windows + m // stride + 1 + OVERRUN
    size = max(windows * stride + span, stride * row if stride > 1 else 0) + OVERRUN
    plan["m"], plan["band"], plan["step"] = m, band, step
    plan["windows"], plan["stride"], plan["size"], plan["row"] = windows, stride, size, row


def _level(around: NDArray[np.float64], begin: int, segment: int, plan: NDArray[Any]) -> Level:
    count = around.shape[1] // segment
    stride, row = int(plan["stride"][0]), int(plan["row"][0])
    order, offsets, rows = _places(count, begin, segment, stride, row)
    means = around[:, : count * segment].reshape(3, count, segment).sum(axis=2) / segment
    return Level(offsets, np.ascontiguousarray(means[:, order], np.float32), rows)


@functools.lru_cache(maxsize=64)
def _places(
    count: int, begin: int, segment: int, stride: int, row: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the places, and the offsets and rows of a `Level`."""
    order = np.argsort(np.arange(count) % SPREAD, kind="stable")
    places = begin + order * segment
    residues = places % stride
    return order, residues * row + places // stride, np.unique(residues)
