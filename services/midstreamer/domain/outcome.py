"""What followed a window, in units of its own: transform, scale, outcome, and when it is known.

One meaning for all who need it: agents give each analog its outcome, reasoning gives a decision
its scale, the backtest does both.  A window of ``m`` points that begins at ``first`` ends at
``first + m - 1``; its outcome is the change over the next ``horizon`` points of the transformed
values, divided by the window's own scale.  Nothing outside the window enters the scale.

A value that cannot be compared has no logarithm where one is asked, or is too large to be squared.
It is refused in a window that is asked about.  In a history it only keeps the windows that touch it
from being analogs, so that one bad tick cannot silence a universe.

Results are equal to the bit whether windows are taken one by one or together, so two agents
with other shards cannot disagree: every window is reduced on its own contiguous copy.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Scale, Specification, Transform

FLATNESS = 1e-12
"""A scale below this share of the largest value is rounding, not variation."""
MAGNITUDE_MAX = 1e150
"""Largest size of a transformed value: kernels sum squares of differences, which must be finite."""
_CELLS_AT_ONCE = 1 << 18
"""Points of the windows that are copied together."""


def transformed(values: Floats, transform: Transform) -> Floats:
    """The values as they are compared, shape as given; BadInput for one that cannot be compared."""
    if transform is Transform.IDENTITY:
        large = np.flatnonzero(np.abs(values) > MAGNITUDE_MAX)
        if large.size:
            at = int(large[0])
            raise BadInput(
                f"value {at} is {values.flat[at]}: specification.transform = identity takes"
                f" values from {-MAGNITUDE_MAX:g} to {MAGNITUDE_MAX:g}; use log, or other units"
            )
        return np.asarray(values, dtype=np.float64)
    wrong = np.flatnonzero(~(values > 0.0))
    if wrong.size:
        at = int(wrong[0])
        raise BadInput(
            f"value {at} is {values.flat[at]}: specification.transform = log needs values above"
            " zero; use identity for series that may be zero or negative"
        )
    return np.asarray(np.log(values), dtype=np.float64)


def history(values: Floats, transform: Transform) -> Floats:
    """A series as it is compared, (n,) -> (n,); NaN where a value cannot be compared."""
    if transform is Transform.IDENTITY:
        large = np.abs(values) > MAGNITUDE_MAX
        return np.asarray(np.where(large, np.nan, values) if large.any() else values, np.float64)
    made = np.full(len(values), np.nan)
    np.log(values, out=made, where=values > 0.0)
    return made


def searchable(points: Floats) -> Floats:
    """A history for the kernels, which take no NaN.

    What stands in for it is never seen: every window that touches it has the outcome NaN.
    """
    return np.where(np.isnan(points), 0.0, points)


def scales(windows: Floats, specification: Specification) -> Floats:
    """The size of a unit outcome of each transformed window, (n, m) -> (n,); 0 when it is flat."""
    windows = np.ascontiguousarray(windows)
    if specification.scale is Scale.DEVIATION:
        made = np.std(windows, axis=1)
    else:
        steps = np.ascontiguousarray(np.diff(windows, axis=1))
        made = np.std(steps, axis=1) * np.sqrt(float(specification.horizon))
    flat = made <= FLATNESS * np.max(np.abs(windows), axis=1)
    return np.asarray(np.where(flat, 0.0, made))


def scale_of(window: Floats, specification: Specification) -> float:
    """The size of a unit outcome of one transformed window, shape (m,); 0 when it is flat."""
    return float(scales(window[np.newaxis, :], specification)[0])


def known_until(count: int, horizon: int) -> int:
    """One past the last point a window may have to be an analog, when ``count`` points are there.

    One horizon until the outcome is known and one more as an embargo, so that no analog's
    outcome overlaps the outcome that is to be foretold.
    """
    return count - 2 * horizon


def grid_firsts(start: int, until: int, specification: Specification) -> Integers:
    """Absolute first positions, from ``start`` on, of the grid's windows that end by ``until``."""
    grid = specification.grid
    begin = -(-start // grid) * grid
    return np.arange(begin, max(begin, until - specification.window + 1), grid, dtype=np.int64)


def outcomes(points: Floats, firsts: Integers, specification: Specification) -> Floats:
    """Scaled outcomes of the windows that begin at ``firsts``, (g,) -> (g,).

    ``points`` are transformed values, shape (n,), and ``firsts`` positions in them.  NaN where
    the outcome lies behind the end, the window is flat, or it or its outcome touches a NaN: such a
    window is not an analog.
    """
    made = np.full(len(firsts), np.nan)
    length, horizon = specification.window, specification.horizon
    inside = np.flatnonzero(np.asarray(firsts) + length + horizon <= len(points))
    if not inside.size:
        return made
    views = sliding_window_view(points, length)
    together = max(1, _CELLS_AT_ONCE // length)
    for begin in range(0, inside.size, together):
        rows = inside[begin : begin + together]
        ends = firsts[rows] + length - 1
        unit = scales(views[firsts[rows]], specification)
        change = points[ends + horizon] - points[ends]
        made[rows] = np.where(unit > 0.0, change / np.where(unit > 0.0, unit, 1.0), np.nan)
    return made


def tally(made: Floats) -> tuple[int, int]:
    """(ups, known): how many outcomes were a rise, how many were known and not zero."""
    return int(np.count_nonzero(made > 0.0)), int(np.count_nonzero(np.abs(made) > 0.0))
