"""The interval tracker: an online quantile tracker that widens the analogs' interval.

A width is added to both ends of the interval. It is adjusted until the interval covers outcomes as
often as requested. A score is the distance of an outcome from the analogs' interval; it is negative
for an outcome inside. After each verdict the width changes by ``gain * range * (missed - miss
rate)``. Here missed is 1 if the outcome was outside the widened interval, else 0. The miss rate is
the requested share of misses; range is the largest minus the smallest recent score. So a miss makes
the width larger, and a hit makes it a little smaller (Gibbs & Candes 2021; Angelopoulos, Candes &
Tibshirani 2023). Verdicts arrive late and their horizons overlap, so the gain is smaller for a
longer horizon and for more series (`gain`). Coverage then adapts a little more slowly, and the
intervals are much narrower.

Suppose that the range is fixed and that all scores are within [-B, B]. Then the share of misses
differs from the requested one by at most ``(2 B / step + 1 + delay) / verdicts``, whatever the
scores are. Here step = gain * range, and delay is the number of verdicts still pending. The reason:
an interval with a width above B never misses, and one with a width below -B always misses. So each
decision made with such a width gets a verdict that moves the width back. Only the pending verdicts
on earlier decisions can move the width further away.

A larger gain is deliberately not used. Coverage would be closer to the requested coverage, but the
intervals would be 1.5 times as wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

GAIN = 0.05
"""Gain of the interval tracker for a stream of one series with a horizon of 1 point. For a longer
horizon or more series, `gain` divides it."""
SCORES_KEPT = 200
"""Number of recent scores (distances of outcomes from their interval) that are kept."""
SCORES_MIN = 50
"""Number of verdicts after which the tracker computes its first width."""


def gain(horizon: int, series: int) -> float:
    """Return the gain of the tracker, from the horizon and the number of series of the stream."""
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

    The cap is the largest recent score plus the range of recent scores. A width equal to the
    largest score would have covered all recent outcomes. So a width above the cap is much larger
    than the recent outcomes need, and does not follow the outcomes any more.
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
