"""The online quantile tracker: widen the analogs' interval until it covers as often as it says.

A score says how far an outcome lay outside the analogs' interval (negative: inside).  After
each verdict the width moves by ``gain * range * (missed - miss rate)``: up on a miss, a little
down otherwise (Gibbs & Candes 2021; Angelopoulos, Candes & Tibshirani 2023).  Verdicts come in
late and overlapping, so the gain is divided by the root of the delay, which costs a little
coverage speed and saves much width.

With a fixed range and scores within [-B, B] the long-run miss rate cannot be off by more than
``(2 B / step + 1 + delay) / verdicts`` whatever the scores, step = gain * range: every miss and
every cover moves the width, and the width cannot leave [-B, B] by more than the moves under way.

Absent on purpose: a fast gain, which gets the best coverage of all with intervals half as wide
again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

GAIN = 0.05
SCORES_KEPT = 200
SCORES_MIN = 50
"""Verdicts before the first width is said."""


def gain(horizon: int, series: int) -> float:
    """The gain for a delay of ``horizon`` points in a stream of so many series."""
    return GAIN / math.sqrt(max(1.0, horizon * math.sqrt(series)))


def score(outcome: float, low: float, high: float) -> float:
    """How far the outcome lies outside [low, high]; negative inside."""
    return max(low - outcome, outcome - high)


def first_width(scores: Sequence[float], miss_rate: float) -> float:
    """The width to begin with: the quantile of the scores of the warm-up."""
    return float(np.quantile(np.asarray(scores), 1.0 - miss_rate))


def moved(
    width: float, scores: Sequence[float], *, missed: bool, miss_rate: float, gain: float
) -> tuple[float, bool]:
    """(the next width, whether it met its cap).

    The cap is one range of recent scores above the largest of them: no outcome of late would
    have needed as much, so a width that wants more says that nothing is known.
    """
    most, least = max(scores), min(scores)
    wanted = width + gain * (most - least) * (float(missed) - miss_rate)
    cap = most + (most - least)
    return min(wanted, cap), wanted > cap


def applied(width: float, low: float, high: float) -> float:
    """The width as it can be added to [low, high]: narrowing ends where the two sides meet."""
    return max(width, (low - high) / 2.0)
