"""The interval tracker: an online quantile tracker that widens the analogs' interval.

The width is adjusted until the interval covers as often as requested. A score is the distance of an
outcome from the analogs' interval; it is negative inside. After each verdict the width moves by
``gain * range * (missed - miss rate)``, where range is the largest minus the smallest recent score:
up after a miss, a little down otherwise (Gibbs & Candes 2021; Angelopoulos, Candes & Tibshirani
2023). Verdicts arrive late and their horizons overlap, so the gain is smaller for a longer horizon
and for more series (`gain`). Coverage then adapts a little more slowly, and the intervals are much
narrower.

With a fixed range and scores within [-B, B], the long-run miss rate is off by at most ``(2 B / step
+ 1 + delay) / verdicts`` for any scores. Here step = gain * range, and delay is the number of
verdicts still pending. The reason: every verdict moves the width, and the width cannot leave
[-B, B] by more than the moves of the verdicts still pending.

A larger gain is deliberately not used. Coverage would be closer to the requested coverage, but the
intervals would be 1.5 times as wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

GAIN = 0.05
"""Gain of the interval tracker for one series whose verdicts arrive one point late."""
SCORES_KEPT = 200
"""Number of recent scores (distances of outcomes from their interval) that are kept."""
SCORES_MIN = 50
"""Number of verdicts after which the tracker computes its first width."""


def gain(horizon: int, series: int) -> float:
    """Return the gain for a stream of ``series`` series with verdicts ``horizon`` points late."""
    return GAIN / math.sqrt(max(1.0, horizon * math.sqrt(series)))


def score(outcome: float, low: float, high: float) -> float:
    """Return the distance of the outcome from the interval [low, high]; negative inside it."""
    return max(low - outcome, outcome - high)


def first_width(scores: Sequence[float], miss_rate: float) -> float:
    """Return the first width: the (1 - miss_rate) quantile of the first `SCORES_MIN` scores."""
    return float(np.quantile(np.asarray(scores), 1.0 - miss_rate))


def moved(
    width: float, scores: Sequence[float], *, missed: bool, miss_rate: float, gain: float
) -> tuple[float, bool]:
    """Return (next width, whether the cap limited it).

    The cap is the largest recent score plus the range of recent scores. No recent outcome needed
    such a width, so a tracker that wants more has lost track of the outcomes.
    """
    most, least = max(scores), min(scores)
    wanted = width + gain * (most - least) * (float(missed) - miss_rate)
    cap = most + (most - least)
    return min(wanted, cap), wanted > cap


def applied(width: float, low: float, high: float) -> float:
    """Return the width to add to both sides of [low, high].

    A negative width narrows the interval, at most until both ends are equal.
    """
    return max(width, (low - high) / 2.0)
