"""Block bootstrap over time: intervals for figures of decisions that depend on each other.

Decisions of one time depend on each other, and so do decisions whose horizons overlap. Therefore a
draw does not pick single decisions: it picks blocks of consecutive times, with all their decisions.
In each draw, a figure is the ratio of two sums over the decisions picked. Figures that are compared
with each other use the same draws.
"""

from __future__ import annotations

import numpy as np

from midstreamer.domain.series import Floats, Integers
from midstreamer.market.judgement_values import Figure

DRAWS = 1000
"""Number of bootstrap draws."""
BLOCK_MIN = 20
"""Minimum number of distinct decision times in one block, if the decisions have so many times."""
LEVEL = 0.95
"""Confidence level of the intervals."""


class Blocks:
    """Random draws of blocks of consecutive times, for the bootstrap of given decisions.

    The draws are made once, so that all figures of these decisions use the same draws.
    """

    def __init__(self, times: Integers, horizon: int, *, draws: int = DRAWS, seed: int = 0) -> None:
        distinct, self._group = np.unique(times, return_inverse=True)
        self._steps = len(distinct)
        self._length = min(max(2 * horizon, BLOCK_MIN), self._steps)
        blocks = -(-self._steps // self._length)
        generator = np.random.default_rng(seed)
        self._starts = generator.integers(0, self._steps, size=(draws, blocks))

    def sums(self, amounts: Floats) -> Floats:
        """Return the sum of the amounts over all decisions, then the sum over each draw.

        ``amounts`` has one number for each decision. The result has the shape (1 + draws,).
        """
        by_step = np.bincount(self._group, weights=amounts, minlength=self._steps)
        around = np.concatenate([[0.0], np.cumsum(np.concatenate([by_step, by_step]))])
        within = around[self._starts + self._length] - around[self._starts]
        return np.concatenate([[float(amounts.sum())], within.sum(axis=1)])

    def ratio(self, amounts: Floats, counts: Floats) -> Floats:
        """Return the sum of the amounts divided by the sum of the counts, shape (1 + draws,).

        Both have one number for each decision. The first result is the ratio over all decisions,
        and each further result is the ratio over one draw.
        """
        below = self.sums(counts)
        return self.sums(amounts) / np.where(below > 0.0, below, np.nan)


def figure(ratios: Floats) -> Figure | None:
    """Return the first ratio, with the interval that holds the share `LEVEL` of the other ratios.

    None if the first ratio is NaN.
    """
    if np.isnan(ratios[0]):
        return None
    draws = ratios[1:][~np.isnan(ratios[1:])]
    if not len(draws):
        return Figure(float(ratios[0]), float("nan"), float("nan"))
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Figure(float(ratios[0]), float(low), float(high))
