"""Block bootstrap over time: how sure a share is when neighbouring outcomes overlap.

Decisions of one time move together, and so do those of overlapping horizons.  Whole blocks of
consecutive times are therefore drawn, with their sums; every figure is a ratio of two such sums,
and figures that are compared are computed on the same draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midstreamer.domain.series import Floats, Integers

DRAWS = 1000
BLOCK_MIN = 20
LEVEL = 0.95


class Figure(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Blocks:
    """Draws of blocks over the times of some decisions, the same for every figure."""

    def __init__(self, times: Integers, horizon: int, *, draws: int = DRAWS, seed: int = 0) -> None:
        distinct, self._group = np.unique(times, return_inverse=True)
        self._steps = len(distinct)
        self._length = min(max(2 * horizon, BLOCK_MIN), self._steps)
        blocks = -(-self._steps // self._length)
        dice = np.random.default_rng(seed)
        self._starts = dice.integers(0, self._steps, size=(draws, blocks))

    def sums(self, amounts: Floats) -> Floats:
        """The sum in each draw, shape (draws,), after the plain sum: shape (1 + draws,)."""
        by_step = np.bincount(self._group, weights=amounts, minlength=self._steps)
        around = np.concatenate([[0.0], np.cumsum(np.concatenate([by_step, by_step]))])
        within = around[self._starts + self._length] - around[self._starts]
        return np.concatenate([[float(amounts.sum())], within.sum(axis=1)])

    def ratio(self, amounts: Floats, counts: Floats) -> Floats:
        """Sum of amounts over sum of counts, plain and in each draw, shape (1 + draws,)."""
        below = self.sums(counts)
        return self.sums(amounts) / np.where(below > 0.0, below, np.nan)


def figure(made: Floats) -> Figure | None:
    """The plain value with the interval of its draws; None when there was nothing to divide."""
    if np.isnan(made[0]):
        return None
    draws = made[1:][~np.isnan(made[1:])]
    if not len(draws):
        return Figure(float(made[0]), float("nan"), float("nan"))
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Figure(float(made[0]), float(low), float(high))
