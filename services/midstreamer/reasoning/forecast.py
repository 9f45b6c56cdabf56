"""From analogs to probabilities and an interval: the arms, before anything is learned of them.

Each arm says P(rise) from the outcomes of the same analogs:

- ``climatology``  how often all past windows of the grid rose; what is left when nothing is known
- ``vote``         the share of rises among the analogs, drawn towards climatology
- ``calibrated``   the vote, stretched or shrunk towards climatology by one slope learned online
- ``margin``       how far the analogs' mean lies from zero, in their own spread: it still tells
                   a wide agreement from a narrow one where the vote is unanimous

An analog's own record of verdicts is deliberately not an arm: it helps on loads and harms on
markets.  Everything is a plain function of floats, so two machines agree to the bit.
"""

from __future__ import annotations

import math

import numpy as np

from midstreamer.domain.decision import Evidence
from midstreamer.domain.series import Floats

ARMS: tuple[str, ...] = ("climatology", "vote", "calibrated", "margin")
"""What each place means, in every decision, verdict and state.  Places are never reused: a new arm
goes to the end, and an arm that is given up keeps its place and repeats the climatology."""
ARMS_FIRST = 4
"""Arms that every state begins with, whatever was added to `ARMS` since: the bytes of a state
follow from its events alone, not from the version that learned them."""

SHRINKAGE = 10.0
"""How many analogs' worth of climatology is mixed into the vote."""
PROBABILITY_MIN = 0.01
"""Climatology and the calibrated arm never claim more certainty than this."""
LOGIT_PER_SPREAD = 1.7
"""The logistic curve nearest to the normal one; it keeps telling margins apart far out."""
MARGIN_MAX = 12.0


def clipped(probability: float) -> float:
    """The probability, kept off certainty."""
    return min(max(probability, PROBABILITY_MIN), 1.0 - PROBABILITY_MIN)


def climatology(evidence: Evidence) -> float:
    """P(rise) of any past window of the grid whose outcome was known."""
    return clipped((evidence.ups + 1.0) / (evidence.known + 2.0))


def vote(outcomes: Floats, base: float) -> float:
    """Share of rises among the analogs that moved, shape (k,), drawn towards ``base``."""
    ups = int(np.count_nonzero(outcomes > 0.0))
    moved = int(np.count_nonzero(outcomes))
    return (ups + SHRINKAGE * base) / (moved + SHRINKAGE)


def margin(outcomes: Floats) -> float:
    """P(rise) when outcomes spread around their mean as the analogs' do; 1/2 when they do not."""
    mean = float(np.mean(outcomes))
    spread = float(np.std(outcomes))
    if spread == 0.0:
        away = math.copysign(MARGIN_MAX, mean) if mean else 0.0
    else:
        away = min(max(mean / spread, -MARGIN_MAX), MARGIN_MAX)
    return 1.0 / (1.0 + math.exp(-LOGIT_PER_SPREAD * away))


def arms(outcomes: Floats, base: float, slope: float) -> tuple[float, ...]:
    """P(rise) of each of `ARMS`; all of them climatology when there is no analog."""
    if not len(outcomes):
        return (base,) * len(ARMS)
    voted = vote(outcomes, base)
    return (base, voted, clipped(base + slope * (voted - base)), margin(outcomes))


def interval(outcomes: Floats, coverage: float) -> tuple[float, float, float]:
    """(low, median, high) of the analogs' outcomes, shape (k,), in scaled units.

    Between order statistics it is linear, as `numpy.quantile` is by default.
    """
    if not len(outcomes):
        return -math.inf, 0.0, math.inf
    ordered = np.sort(outcomes)
    tail = (1.0 - coverage) / 2.0
    return _quantile(ordered, tail), _quantile(ordered, 0.5), _quantile(ordered, 1.0 - tail)


def _quantile(ordered: Floats, share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    low, high = float(ordered[below]), float(ordered[above])
    return low + (high - low) * (place - below)
