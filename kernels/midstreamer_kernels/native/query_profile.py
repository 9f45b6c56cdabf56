"""The profile of a query for a scan: its z-normal form, its envelope, and tolerances for rounding.

The bounds of `emit.bounds` are sums. Each term compares the window with the query at one *place*,
which is one point or the mean of several points. There are two levels:

- *Coarse*: there are at most 29 places. Each place is the mean of 2**n consecutive points. Every
  window gets the coarse bound.
- *Fine*: the places are all points, in an order that reaches all parts of the window early. Only
  windows that the coarse bound does not rule out get the fine bound.

On every warping path the first points of window and query are paired, and so are the last points.
For DTW the costs of these two pairs are added in full, and the places are the points in between. In
LCSS any point may stay without a match. So for LCSS both levels are the same: they have all points,
and count the points that cannot match.

Bounds are computed in float32, from values relative to `origin` and divided by `unit` (see `PLAN`).
To be valid in spite of rounding, each bound is reduced by twice its greatest possible rounding
error before it is compared with the limit. That error is estimated as follows, with u = 2**-24:

- The points x of a block have a magnitude of at most 1. The window's z-normal points are
  ``x * a - offset``; the factor a is called the *slope* of the window. A term of a bound compares
  such a point with a query point q. The *excess* of a term is the amount by which one of the two
  points lies outside of the envelope of the other series.
- A point x has the error u, and a mean of 2**n points has the error (1 + n) u. Rounding the slope,
  the product ``x * a``, the offset (|offset| <= a, because a mean lies between the extremes) and
  the difference ``x * a - offset`` (at most 2 a) adds 5 u a. Rounding the query and its difference
  to the window adds at most 2 (2 a + |q|) u.
- So the error of an excess is less than ``E = u ((10 + n) a + 4 |q|)``. By the triangle inequality
  the error of the root of m summed squared excesses is less than ``sqrt(m) E``. Adding m squares
  changes the sum by less than (m + 8) u of itself.

The profile is computed with numpy in a hundred microseconds; numba would compile for seconds.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.normal_forms import envelope_of, normal_form
from midstreamer_kernels.search_inputs import SearchOptions

SPARE = 2.0**-23  # twice the greatest relative rounding error of one float32 operation
# Absolute error that is allowed because squares that are too small for float32 become 0. Like the
# distances in float32, it is divided by the `unit` of `PLAN`.
TINY = 1e-15
# Without z-normalisation, the `unit` of `PLAN` is the greatest difference of a query point from the
# query's first point. But if that difference is not greater than `UNIT_MIN`, `unit` is 1.
UNIT_MIN = 1e-30
# A coarse bound has at least this number of terms, each for the mean of one segment of points. If
# the query is too short for that, a segment is a single point.
SEGMENTS_MIN = 15
# A fine bound adds the points 0, 8, 16 ... of the window first, then 1, 9, 17 ... and so on: so the
# first terms come from the whole window, and the sum exceeds the limit early.
SPREAD = 8

STRIP = 64  # windows of a strip, which is skipped if none of them is within the limit
# A block has as many windows as can begin within ``max(POINTS_MIN, m + 2 * band)`` points. This
# number of windows is rounded down to a multiple of `STRIP`. But a block has at least `STRIP`
# windows, even if some of them begin after these points.
POINTS_MIN = 1024
OVERRUN = 64  # elements that a vector may read beyond the last window

PLAN = np.dtype(  # one record with the options and sizes that the compiled functions read
    [
        ("k", "i8"),  # number of matches wanted
        ("m", "i8"),  # number of points of the query
        ("band", "i8"),  # half-width of the warping band in points
        ("step", "i8"),  # number of points from one candidate to the next
        ("normalized", "i8"),  # 1 if z-normal forms are compared
        ("lcss", "i8"),  # 1 for LCSS, 0 for DTW
        # Every warping path pairs the first points of window and query, and pairs their last
        # points. A bound of DTW adds the exact costs of these two pairs. The field is the number of
        # pairs: 2 for DTW, but 1 if m is 1; 0 for LCSS.
        ("corners", "i8"),
        ("segment", "i8"),  # coarse bounds compare means of this number of points
        ("windows", "i8"),  # greatest number of candidates in a block
        ("stride", "i8"),  # points from one window to the next in a block: min(step, m + 2 * band)
        ("size", "i8"),  # number of elements in each row of `window_preparation.Room.space`
        # If `stride` is greater than 1, `window_preparation` deals points into `stride` rows. The
        # field is the number of elements in each of these rows.
        ("row", "i8"),
        # Without z-normalisation, points are stored as ``(point - origin) / unit``. With it, origin
        # is 0 and unit is 1, and `window_preparation` scales each block by the block's own points.
        ("origin", "f8"),
        ("unit", "f8"),
        # Factor below 1 for each DTW bound. It makes up for additions that were rounded up.
        ("shrink", "f8"),
        # The rounding error of a bound is at most ``noise_slope * slope + noise``. The slope is the
        # factor that makes the stored points of the window z-normal. Without z-normalisation, the
        # greatest magnitude of a stored point takes the place of the slope.
        ("noise_slope", "f8"),
        ("noise", "f8"),
        ("filter_factor", "f8"),  # distance in float32 <= filter_factor * exact one + filter_noise
        ("filter_noise", "f8"),
        ("epsilon", "f8"),  # greatest difference of two points that match by LCSS
        ("cutoff", "f8"),  # greatest distance of a match
        ("stop", "i8"),  # address of the stop flag
    ]
)


class Level(NamedTuple):
    """What the terms of a coarse bound, or of a fine bound, compare.

    A bound is a sum. Each of its terms compares the window with the query at one *place*: a point,
    or the mean of a segment.
    """

    segment: int
    """Number of points in a segment, whose mean is compared; 1 if the points are compared."""
    offsets: NDArray[np.int64]
    """For each term of a bound, the offset of the value that the term reads; shape (places,).

    The value is a point of the window or the mean of a segment. The offset counts elements from the
    element of `window_preparation.Room.space` at which the window begins.
    """
    envelope: NDArray[np.float32]
    """Rows: the query, its upper envelope, its lower envelope. Columns: the terms of a bound.

    Shape (3, places). Each element belongs to one point of the query. But if `segment` is greater
    than 1, each element is the mean over `segment` consecutive points.
    """
    rows: NDArray[np.int64]
    """Numbers of the rows that the bounds read, ascending, int64.

    If the plan's `stride` is greater than 1, `window_preparation` deals the points (or the means)
    into `stride` rows: the value with index i goes to row ``i % stride``. Only the rows whose
    numbers are listed here are filled.
    """


class Profile(NamedTuple):
    """A query in the forms that a scan needs."""

    plan: NDArray[Any]
    """One record of the type `PLAN`, shape (1,)."""
    query: NDArray[np.float64]
    """The query as compared, z-normal if windows are normalised, shape (m,)."""
    narrow: NDArray[np.float32]
    """The query in float32, shape (m,): ``(query - origin) / unit``; `PLAN` has both numbers."""
    coarse: Level
    """The points, or means of points, that coarse bounds compare, with the query's values there."""
    fine: Level
    """The points that fine bounds compare, with the query's values at these points."""


def profile_of(raw: NDArray[np.float64], options: SearchOptions, stop: int) -> Profile:
    """Return the profile of the query `raw`, shape (m,), which is not yet z-normalised.

    `stop` is the address of the stop flag.
    """
    k, step, band, normalized, lcss, epsilon, cutoff = options
    m = raw.size
    query = normal_form(raw) if normalized else raw
    origin = 0.0 if normalized else float(raw[0])
    unit = 1.0 if normalized else float(np.abs(raw - origin).max())
    unit = unit if unit > UNIT_MIN else 1.0
    inner = (query - origin) / unit
    most = float(np.abs(inner).max())
    corners = 0 if lcss else min(m, 2)
    segment = 1
    while not lcss and (m - 2) // (2 * segment) >= SEGMENTS_MIN:
        segment *= 2
    spread = SPARE if lcss else SPARE * math.sqrt(m)
    sizes = _sizes(m, band, step)
    plan = {
        "k": k, "m": m, "band": band, "step": step, "normalized": normalized, "lcss": lcss,
        "corners": corners, "segment": segment,
        "windows": sizes.windows, "stride": sizes.stride, "size": sizes.size, "row": sizes.row,
        "origin": origin, "unit": unit, "shrink": 1.0 - (m + 8) * SPARE,
        "noise_slope": spread * (10.0 + math.log2(segment)), "noise": spread * 4.0 * most + TINY,
        "filter_factor": 1.0 + (2 * m + 8) * SPARE,
        "filter_noise": math.sqrt(2.0 * m) * 2.0 * SPARE * most + TINY,
        "epsilon": epsilon, "cutoff": cutoff, "stop": stop,
    }  # fmt: skip
    record = np.array([tuple([plan[name] for name in PLAN.names or ()])], PLAN)
    around = np.empty((3, m))
    around[0] = inner
    around[1], around[2] = envelope_of(inner, band, m)
    around = around[:, min(corners, 1) : m - corners // 2]
    coarse = _level(around, min(corners, 1), segment, sizes)
    fine = coarse if segment == 1 else _level(around, min(corners, 1), 1, sizes)
    return Profile(record, query, inner.astype(np.float32), coarse, fine)


class _Sizes(NamedTuple):
    """The sizes of a block of windows. `PLAN` has fields of the same names, with comments."""

    windows: int
    stride: int
    size: int
    row: int


def _sizes(m: int, band: int, step: int) -> _Sizes:
    """Return the sizes of the blocks of a scan; see `window_preparation`."""
    span = m + 2 * band
    stride = min(step, span)
    windows = STRIP * max(1, max(POINTS_MIN, span) // (stride * STRIP))
    row = windows + m // stride + 1 + OVERRUN
    size = max(windows * stride + span, stride * row if stride > 1 else 0) + OVERRUN
    return _Sizes(windows, stride, size, row)


def _level(around: NDArray[np.float64], begin: int, segment: int, sizes: _Sizes) -> Level:
    count = around.shape[1] // segment
    order, offsets, rows = _places(count, begin, segment, sizes.stride, sizes.row)
    if segment > 1:
        around = around[:, : count * segment].reshape(3, count, segment).sum(axis=2) / segment
    return Level(segment, offsets, np.ascontiguousarray(around[:, order], np.float32), rows)


@functools.lru_cache(maxsize=64)
def _places(
    count: int, begin: int, segment: int, stride: int, row: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the order in which a bound adds its terms, and the `offsets` and `rows` of `Level`."""
    order = np.argsort(np.arange(count) % SPREAD, kind="stable")
    places = begin + order * segment
    residues = places % stride
    return order, residues * row + places // stride, np.unique(residues)
