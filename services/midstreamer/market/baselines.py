"""Rivals: other ways to foretell the same decisions, from what was known at their times.

Each rival says a lean for every decision: above 0 a rise, below 0 a fall, its size how sure it
is; NaN where it has nothing to say.  Those that know a probability say it too.

- ``majority``   what past windows did more often: always the same side on a drifting market
- ``momentum``   what rose in the window goes on rising
- ``euclid``     neighbours found without warping (band 0) in the same memory, asked for their
                 vote and for their margin, as our own are
- ``season N``   what the values did N points ago
- ``ridge``      a linear regression on the window (and the seasons), fitted to all grid windows
                 whose outcome is known, again and again as the memory grows

None of them is tuned, and none sees a point later than the decision's time.
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
RIDGE_ROWS_MIN = 300
RIDGE_FITS = 150
OUTCOME_MAX = 8.0
"""Outcomes are cut here for the regression, so that one crash does not bend it for years."""


@dataclass(frozen=True)
class Cases:
    """The decisions to foretell, in time order; arrays of shape (n,)."""

    memory: Memory
    row: Integers
    """Which series of the memory."""
    index: Integers
    """Position of the window's last point."""
    time: Integers
    scale: Floats
    base: Floats
    """Climatology's P(rise) at that time."""


@dataclass(frozen=True)
class Rival:
    """What one rival says of every case."""

    name: str
    lean: Floats
    probability: Floats | None = None


def all_of(cases: Cases, seasons: Sequence[int] = ()) -> list[Rival]:
    """Every rival; ``seasons`` in points, e.g. (24, 168) for hourly data."""
    return [
        majority(cases),
        momentum(cases),
        *euclid(cases),
        *(season(cases, length) for length in seasons),
        ridge(cases, seasons),
    ]


def majority(cases: Cases) -> Rival:
    """The side that past windows took more often."""
    return Rival("majority", cases.base - 0.5, cases.base)


def momentum(cases: Cases) -> Rival:
    """The side that the window itself took."""
    window = cases.memory.specification.window
    lean = _gathered(cases, 0) - _gathered(cases, 1 - window)
    return Rival("momentum", lean / cases.scale)


def season(cases: Cases, length: int) -> Rival:
    """The change that followed the same moment of the last season known."""
    return Rival(f"season {length}", _seasonal(cases, length) / cases.scale)


def euclid(cases: Cases) -> tuple[Rival, Rival]:
    """The vote and the margin of the nearest windows by Euclidean distance, in the same memory."""
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

    # One answer does not depend on another, and the kernels let other threads run meanwhile.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        collections.deque(pool.map(ask, range(len(cases.time))), maxlen=0)
    return Rival("euclid vote", votes - 0.5, votes), Rival("euclid margin", margins - 0.5, margins)


def _ends(cases: Cases) -> dict[int, list[int]]:
    """How many points each series of the memory had, by time of a case."""
    times = np.unique(cases.time)
    counts = [np.searchsorted(own, times, side="right") for own in cases.memory.times]
    return dict(zip(times.tolist(), np.stack(counts, axis=1).tolist(), strict=True))


def ridge(cases: Cases, seasons: Sequence[int] = ()) -> Rival:
    """A linear regression of the scaled outcome, fitted anew some 150 times."""
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
    """Normal equations that grow."""

    def __init__(self, width: int) -> None:
        self._square = RIDGE * np.eye(width)
        self._cross = np.zeros(width)
        self._energy, self._count = 0.0, 0

    def add(self, features: Floats, followed: Floats) -> None:
        self._square += features.T @ features
        self._cross += features.T @ followed
        self._energy += float(followed @ followed)
        self._count += len(followed)

    def predict(self, features: Floats) -> tuple[Floats, float]:
        """(predictions, the standard deviation of what the fit leaves unexplained)."""
        coefficients = np.linalg.solve(self._square, self._cross)
        left = self._energy - float(coefficients @ self._cross)
        spread = math.sqrt(max(left / self._count, 1e-12))
        return np.asarray(features @ coefficients), spread


def _normal(z: Floats) -> Floats:
    made = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z.tolist()])
    return np.asarray(np.clip(made, forecast.PROBABILITY_MIN, 1.0 - forecast.PROBABILITY_MIN))


def _lessons(memory: Memory, seasons: Sequence[int]) -> tuple[Integers, Floats, Floats]:
    """All grid windows: (time their outcome was known, features, outcome), by that time."""
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
    """The z-normal window, its last step, each season's change, and 1; shape (n, features)."""
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
    """Change from the case's point to the last known one of the outcome's place in the season."""
    horizon = cases.memory.specification.horizon
    back = horizon - length * math.ceil(horizon / length)
    return _gathered(cases, back) - _gathered(cases, 0)


def _gathered(cases: Cases, offset: int) -> Floats:
    """The transformed point ``offset`` away from each case's last; NaN before the beginning."""
    made = np.full(len(cases.row), np.nan)
    for row, points in enumerate(cases.memory.points):
        here = np.flatnonzero((cases.row == row) & (cases.index + offset >= 0))
        made[here] = points[cases.index[here] + offset]
    return made
