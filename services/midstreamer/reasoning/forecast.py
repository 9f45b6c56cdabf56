"""Forecast from analogs: P(rise) of each arm, and the interval of the analogs' outcomes.

Each arm is a forecasting method. It computes P(rise) from the outcomes of the same analogs:

- ``climatology``  how often the value rose after any past window of the grid; needs no analogs
- ``vote``         the share of rises among the analogs, shrunk towards climatology
- ``calibrated``   climatology + slope * (vote - climatology); the slope is learned from verdicts
- ``margin``       a function of (mean / standard deviation) of the analogs' outcomes. Suppose that
                   for each of two windows all analogs rose: the vote is about the same for both,
                   but the margin is greater where the rises were large and alike

There is deliberately no arm that weights analogs by their own past verdicts. Such an arm improves
forecasts of electricity load, and makes forecasts of markets worse. All arms are plain functions of
floats, so two machines get equal bits.
"""

from __future__ import annotations

import math

import numpy as np

from midstreamer.domain.decision import Evidence
from midstreamer.domain.series import Floats

ARMS: tuple[str, ...] = ("climatology", "vote", "calibrated", "margin")
"""Names of the arms, in their order in every decision, verdict and state.

A position is never reused: a new arm goes to the end, and a retired arm keeps its position and
repeats the climatology."""
ARMS_FIRST = 4
"""Number of arms in every new state, even if a later version has more in `ARMS`.

So two versions that learn the same events get the same bytes."""

SHRINKAGE = 10.0
"""Weight of climatology in the ``vote`` arm: climatology counts as much as this many analogs."""
PROBABILITY_MIN = 0.01
"""Climatology and the calibrated arm stay between this probability and 1 minus it."""
LOGIT_PER_SPREAD = 1.7
"""Factor with which the logistic curve approximates the normal distribution function.

For large margins, floats round the normal distribution function to 1. The logistic curve still
gives different probabilities for different margins, so it is used instead."""
MARGIN_MAX = 12.0
"""Limit of |mean / standard deviation| of the outcomes in the ``margin`` arm."""


def clipped(probability: float) -> float:
    """Return the probability, limited to PROBABILITY_MIN .. 1 - PROBABILITY_MIN."""
    return min(max(probability, PROBABILITY_MIN), 1.0 - PROBABILITY_MIN)


def climatology(evidence: Evidence) -> float:
    """Return P(rise) from all past windows that begin on the grid and have a known outcome."""
    return clipped((evidence.ups + 1.0) / (evidence.known + 2.0))


def vote(outcomes: Floats, base: float) -> float:
    """Return the share of rises among the outcomes that are not 0, shrunk towards ``base``.

    ``outcomes`` are the outcomes of the analogs, shape (k,).
    """
    ups = int(np.count_nonzero(outcomes > 0.0))
    moved = int(np.count_nonzero(outcomes))
    return (ups + SHRINKAGE * base) / (moved + SHRINKAGE)


def margin(outcomes: Floats) -> float:
    """Return P(rise) from mean and deviation of the analogs' outcomes; 1/2 if all of them are 0."""
    mean = float(np.mean(outcomes))
    spread = float(np.std(outcomes))
    if spread == 0.0:
        away = math.copysign(MARGIN_MAX, mean) if mean else 0.0
    else:
        away = min(max(mean / spread, -MARGIN_MAX), MARGIN_MAX)
    return 1.0 / (1.0 + math.exp(-LOGIT_PER_SPREAD * away))


def arms(outcomes: Floats, base: float, slope: float) -> tuple[float, ...]:
    """Return P(rise) of each arm in `ARMS`; without analogs all are the climatology ``base``."""
    if not len(outcomes):
        return (base,) * len(ARMS)
    voted = vote(outcomes, base)
    return (base, voted, clipped(base + slope * (voted - base)), margin(outcomes))


def interval(outcomes: Floats, coverage: float) -> tuple[float, float, float]:
    """Return three quantiles of the outcomes: (low, median, high).

    ``outcomes`` are the outcomes of the analogs, shape (k,). The share ``coverage`` of the outcomes
    lies between low and high. An outcome is in units of the scale of its own window, and so are the
    quantiles. They are interpolated linearly, as `numpy.quantile` does by default. Without outcomes
    the interval is infinite and the median 0.
    """
    if not len(outcomes):
        return -math.inf, 0.0, math.inf
    ordered = np.sort(outcomes)
    tail = (1.0 - coverage) / 2.0
    return _quantile(ordered, tail), _quantile(ordered, 0.5), _quantile(ordered, 1.0 - tail)


def _quantile(ordered: Floats, share: float) -> float:
    """Return the quantile ``share`` (0 to 1) of sorted values, interpolated linearly."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    low, high = float(ordered[below]), float(ordered[above])
    return low + (high - low) * (place - below)
