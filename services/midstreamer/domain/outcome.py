"""Outcomes of windows: what followed a window, divided by the window's own scale.

Agents compute the outcome of each analog, `reasoning` the scale of each decision, and the backtest
both; all of them use this module, so the definition is the same everywhere. A window of ``m``
points that begins at ``first`` ends at ``first + m - 1``. Its outcome is the change of the
transformed values over the next ``horizon`` points, divided by the scale of the window. The scale
depends on points inside the window only.

Some values cannot be compared: values without a logarithm under the log transform, and values too
large to be squared. A query window with such a value is refused. In a history such a value only
excludes the windows that touch it from being analogs, so that one bad tick cannot stop the
forecasts of a universe.

An outcome has the same bits whether its window is processed alone or together with others, because
numpy sums each window over a contiguous copy, in the same order. So two agents that hold different
shards compute the same outcome for the same window.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Scale, Specification, Transform

FLATNESS = 1e-12
"""A window is flat if its scale is at most this share of its largest absolute value: so small a
scale is rounding error."""
MAGNITUDE_MAX = 1e150
"""Largest absolute value that can be compared, after the identity or log transform. With larger
values, the kernels' sums of squares could become infinite."""
_CELLS_AT_ONCE = 1 << 18
"""Maximum number of values copied at once: the windows copied together, times points per window."""


def transformed(values: Floats, transform: Transform) -> Floats:
    """Return the transformed values, same shape.

    BadInput names the first value that cannot be compared.
    """
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
            " zero; use identity for series with zero or negative values"
        )
    return np.asarray(np.log(values), dtype=np.float64)


def history(values: Floats, transform: Transform) -> Floats:
    """Return the transformed values of a series, (n,) -> (n,).

    A value that cannot be compared becomes NaN.
    """
    if transform is Transform.IDENTITY:
        large = np.abs(values) > MAGNITUDE_MAX
        return np.asarray(np.where(large, np.nan, values) if large.any() else values, np.float64)
    logarithms = np.full(len(values), np.nan)
    np.log(values, out=logarithms, where=values > 0.0)
    return logarithms


def searchable(points: Floats) -> Floats:
    """Return a history with 0 in place of each NaN, because the kernels take no NaN.

    The zeros have no effect: every window that touches one has the outcome NaN and is no analog.
    """
    return np.where(np.isnan(points), 0.0, points)


def scales(windows: Floats, specification: Specification) -> Floats:
    """Return the scale of each transformed window, (n, m) -> (n,); 0 when the window is flat."""
    windows = np.ascontiguousarray(windows)
    if specification.scale is Scale.DEVIATION:
        deviations = np.std(windows, axis=1)
    else:
        steps = np.ascontiguousarray(np.diff(windows, axis=1))
        deviations = np.std(steps, axis=1) * np.sqrt(float(specification.horizon))
    flat = deviations <= FLATNESS * np.max(np.abs(windows), axis=1)
    return np.asarray(np.where(flat, 0.0, deviations))


def scale_of(window: Floats, specification: Specification) -> float:
    """Return the scale of one transformed window, shape (m,); 0 when the window is flat."""
    return float(scales(window[np.newaxis, :], specification)[0])


def known_until(count: int, horizon: int) -> int:
    """Return one past the last point that an analog may contain, in a series of ``count`` points.

    An analog that ends at position p has its outcome at p + horizon. This position must lie at
    least one more horizon before the last point of the series. The gap (the embargo) separates the
    analog's outcome from the outcome that is forecast.
    """
    return count - 2 * horizon


def grid_firsts(start: int, until: int, specification: Specification) -> Integers:
    """Return where grid windows begin: every multiple of the grid from ``start`` on.

    Only windows whose points all lie before ``until`` are returned. int64, shape (g,).
    """
    grid = specification.grid
    begin = -(-start // grid) * grid
    return np.arange(begin, max(begin, until - specification.window + 1), grid, dtype=np.int64)


def outcomes(points: Floats, firsts: Integers, specification: Specification) -> Floats:
    """Return the scaled outcomes of the windows that begin at ``firsts``, (g,) -> (g,).

    ``points`` are transformed values, shape (n,); ``firsts`` are positions in them. A window with
    the outcome NaN is no analog. There are three such cases: ``points`` end before the outcome, the
    window is flat, or a NaN is in the window or its outcome.
    """
    scaled = np.full(len(firsts), np.nan)
    length, horizon = specification.window, specification.horizon
    inside = np.flatnonzero(np.asarray(firsts) + length + horizon <= len(points))
    if not inside.size:
        return scaled
    windows = sliding_window_view(points, length)
    together = max(1, _CELLS_AT_ONCE // length)
    for begin in range(0, inside.size, together):
        rows = inside[begin : begin + together]
        ends = firsts[rows] + length - 1
        unit = scales(windows[firsts[rows]], specification)
        change = points[ends + horizon] - points[ends]
        scaled[rows] = np.where(unit > 0.0, change / np.where(unit > 0.0, unit, 1.0), np.nan)
    return scaled


def tally(scaled: Floats) -> tuple[int, int]:
    """Return (ups, known): how many outcomes were a rise, and how many were known and not zero."""
    return int(np.count_nonzero(scaled > 0.0)), int(np.count_nonzero(np.abs(scaled) > 0.0))
