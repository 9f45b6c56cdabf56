"""Rivals: simple forecasting methods that are compared with Midstreamer on the same decisions.

Each rival gives a lean for every decision: positive for a rise, negative for a fall, and larger
when the rival is more confident; NaN when it has no forecast. Some rivals also give a probability.
A rival uses only what was known at the time of the decision.

- ``majority``   the direction that past windows took more often: constant on a drifting market
- ``momentum``   the direction in which the window itself moved
- ``euclid``     two rivals from the windows nearest without warping (band 0): one from their share
                 of rises, one from the mean and deviation of their outcomes (`reasoning.forecast`)
- ``season N``   the forecast is a past value: the value N points before the point that is forecast,
                 or 2 N, 3 N and so on before it, if the nearer values are not known yet. The lean
                 is the change from the window's last value to the forecast
- ``ridge``      a linear regression on the window (and on the seasons), fitted to all grid windows
                 with a known outcome, and fitted again as more outcomes become known

No rival is tuned, and no rival uses a point later than the decision's time.
"""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from midstreamer.domain import outcome
from midstreamer.domain.series import Floats, Integers
from midstreamer.market.backtest import Memory
from midstreamer.reasoning import forecast

RIDGE = 10.0
"""Ridge penalty of the regression."""
RIDGE_ROWS_MIN = 300
"""Number of windows with a known outcome needed before the regression forecasts."""
RIDGE_FITS = 150
"""Approximate number of times that the regression is fitted."""
OUTCOME_MAX = 8.0
"""Outcomes are cut to +-this value for the regression, so that one crash does not distort it."""


@dataclass(frozen=True)
class Cases:
    """The decisions to forecast, in time order, as arrays of shape (n,)."""

    memory: Memory
    row: Integers
    """Row of the decision's series in ``memory``."""
    index: Integers
    """Position of the window's last point in its series."""
    time: Integers
    """Event time of the decision."""
    scale: Floats
    """The change that counts as an outcome of 1, in values after the specification's transform."""
    base: Floats
    """P(rise) according to climatology at the time of the decision."""


@dataclass(frozen=True)
class Rival:
    """The forecasts of one rival for every case."""

    name: str
    lean: Floats
    """Lean for each case: positive for a rise, negative for a fall, NaN without a forecast.

    float64, shape (n,).
    """
    probability: Floats | None = None
    """P(rise) for each case, float64, shape (n,); None when the rival gives no probabilities."""


def all_of(cases: Cases, seasons: Sequence[int] = ()) -> list[Rival]:
    """Return the forecasts of every rival.

    ``seasons`` has the length of each season in points. For series with one point an hour, (24,
    168) means a day and a week.
    """
    return [
        majority(cases),
        momentum(cases),
        *euclid(cases),
        *(season(cases, length) for length in seasons),
        ridge(cases, seasons),
    ]


def majority(cases: Cases) -> Rival:
    """Forecast the direction that past windows took more often."""
    return Rival("majority", cases.base - 0.5, cases.base)


def momentum(cases: Cases) -> Rival:
    """Forecast the direction in which the window itself moved."""
    window = cases.memory.specification.window
    lean = _gathered(cases, 0) - _gathered(cases, 1 - window)
    return Rival("momentum", lean / cases.scale)


def season(cases: Cases, length: int) -> Rival:
    """Forecast that the value one or more whole seasons ago comes again (see `_seasonal`)."""
    return Rival(f"season {length}", _seasonal(cases, length) / cases.scale)


def euclid(cases: Cases) -> tuple[Rival, Rival]:
    """Forecast with the past windows that are nearest by Euclidean distance.

    Return two rivals: one from the share of rises among these windows (`forecast.vote`), and one
    from the mean and deviation of their outcomes (`forecast.margin`).
    """
    votes, margins = cases.base.copy(), cases.base.copy()
    memory, ends_of = cases.memory, _ends(cases)
    barred_of = {time: memory.counts(ends)[2] for time, ends in ends_of.items()}

    def ask(place: int) -> None:
        time = int(cases.time[place])
        query = memory.window(int(cases.row[place]), int(cases.index[place]) + 1)
        analogs = memory.nearest(query, ends_of[time], barred=barred_of[time], band=0)
        if len(analogs.outcome):
            votes[place] = forecast.vote(analogs.outcome, float(cases.base[place]))
            margins[place] = forecast.margin(analogs.outcome)

    # The searches are independent, and the kernels release the interpreter lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        collections.deque(pool.map(ask, range(len(cases.time))), maxlen=0)
    return Rival("euclid vote", votes - 0.5, votes), Rival("euclid margin", margins - 0.5, margins)


def _ends(cases: Cases) -> dict[int, list[int]]:
    """Return how many points each series had at the time of each case.

    The keys of the result are the distinct times of the cases. Each value has one number for each
    series, in the order of `Memory.names`.
    """
    times = np.unique(cases.time)
    counts = [
        np.searchsorted(series_times, times, side="right") for series_times in cases.memory.times
    ]
    return dict(zip(times.tolist(), np.stack(counts, axis=1).tolist(), strict=True))


def ridge(cases: Cases, seasons: Sequence[int] = ()) -> Rival:
    """Forecast the scaled outcome by linear regression, fitted anew about RIDGE_FITS times."""
    known_time, features, followed = _lessons(cases.memory, seasons)
    asked = _features(cases, seasons)
    predicted = np.full(len(cases.row), np.nan)
    probability = cases.base.copy()
    fit = _Fit(features.shape[1])
    step = max(1, len(cases.row) // RIDGE_FITS)
    done = 0
    for begin in range(0, len(cases.row), step):
        part = slice(begin, begin + step)
        reached = int(np.searchsorted(known_time, cases.time[begin], side="right"))
        fit.add(features[done:reached], followed[done:reached])
        done = reached
        if done >= RIDGE_ROWS_MIN:
            predicted[part], spread = fit.predict(asked[part])
            probability[part] = _normal(predicted[part] / spread)
    return Rival("ridge", predicted, probability)


class _Fit:
    """A ridge regression whose normal equations grow with each batch of rows."""

    def __init__(self, width: int) -> None:
        self._square = RIDGE * np.eye(width)
        self._cross = np.zeros(width)
        self._energy, self._count = 0.0, 0

    def add(self, features: Floats, followed: Floats) -> None:
        """Add rows of features, shape (n, features), with their outcomes, shape (n,)."""
        self._square += features.T @ features
        self._cross += features.T @ followed
        self._energy += float(followed @ followed)
        self._count += len(followed)

    def predict(self, features: Floats) -> tuple[Floats, float]:
        """Return (predictions, standard deviation of the residuals of the fit)."""
        coefficients = np.linalg.solve(self._square, self._cross)
        left = self._energy - float(coefficients @ self._cross)
        spread = math.sqrt(max(left / self._count, 1e-12))
        return np.asarray(features @ coefficients), spread


def _normal(z: Floats) -> Floats:
    """Return the normal distribution function of z, clipped to be neither 0 nor 1."""
    probability = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z.tolist()])
    return np.asarray(
        np.clip(probability, forecast.PROBABILITY_MIN, 1.0 - forecast.PROBABILITY_MIN)
    )


def _lessons(memory: Memory, seasons: Sequence[int]) -> tuple[Integers, Floats, Floats]:
    """Return the rows that the regression is fitted to: (times, features, outcomes).

    There is one row for each grid window with a known outcome. Its time is the time at which this
    outcome became known. The rows are in the order of these times.
    """
    parts = []
    for row, points in enumerate(memory.points):
        until = len(points) - memory.specification.horizon
        firsts = outcome.grid_firsts(0, until, memory.specification)
        followed = outcome.outcomes(points, firsts, memory.specification)
        good = np.flatnonzero(~np.isnan(followed))
        index = firsts[good] + memory.specification.window - 1
        windows = sliding_window_view(points, memory.specification.window)[firsts[good]]
        here = Cases(
            memory=memory,
            row=np.full(len(good), row),
            index=index,
            time=memory.times[row][index],
            scale=outcome.scales(windows, memory.specification),
            base=np.empty(0),
        )
        settled = memory.times[row][index + memory.specification.horizon]
        cut = np.clip(followed[good], -OUTCOME_MAX, OUTCOME_MAX)
        parts.append((settled, _features(here, seasons), cut))
    times, features, followed = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(times, kind="stable")
    return times[order], features[order], followed[order]


def _features(cases: Cases, seasons: Sequence[int]) -> Floats:
    """Return the features of each case, shape (n, features).

    They are the z-normalised window, the difference of its last two values, the seasonal forecast
    for each season length (`_seasonal`), and the constant 1.
    """
    length = cases.memory.specification.window
    windows = np.empty((len(cases.row), length))
    for row, points in enumerate(cases.memory.points):
        here = cases.row == row
        windows[here] = sliding_window_view(points, length)[cases.index[here] - length + 1]
    spread = windows.std(axis=1, keepdims=True)
    normal = (windows - windows.mean(axis=1, keepdims=True)) / np.where(spread > 0.0, spread, 1.0)
    changes = [np.nan_to_num(_seasonal(cases, length) / cases.scale) for length in seasons]
    ones = np.ones(len(normal))
    return np.column_stack([normal, normal[:, -1] - normal[:, -2], *changes, ones])


def _seasonal(cases: Cases, length: int) -> Floats:
    """Return the seasonal forecast of each case: the change from its last point to a past point.

    The past point lies a whole number of seasons before the point that is forecast. It is the
    latest such point that is known.
    """
    horizon = cases.memory.specification.horizon
    back = horizon - length * math.ceil(horizon / length)
    return _gathered(cases, back) - _gathered(cases, 0)


def _gathered(cases: Cases, offset: int) -> Floats:
    """Return one point for each case: ``offset`` 0 is the last point of the case's window.

    A negative ``offset`` counts back from there: -1 is the point before. The points are transformed
    as the specification says, for example to logarithms. NaN where the position would be before the
    first point of the series.
    """
    gathered = np.full(len(cases.row), np.nan)
    for row, points in enumerate(cases.memory.points):
        here = np.flatnonzero((cases.row == row) & (cases.index + offset >= 0))
        gathered[here] = points[cases.index[here] + offset]
    return gathered
