"""The z-normal form of a window: mean 0, population standard deviation 1.

A constant window becomes zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def statistics(window: Sequence[float]) -> tuple[float, float]:
    """Return (shift, scale): the mean of ``x - x[0]``, and one over the standard deviation.

    The scale is 0 if the variance is 0. Because values are taken relative to the window's own first
    point, a constant window has a variance of exactly 0.
    """
    mean = sum_in_order([x - window[0] for x in window]) / len(window)
    deviations = [x - window[0] - mean for x in window]
    variance = sum_in_order([d * d for d in deviations]) / len(window)
    return mean, 1.0 / math.sqrt(variance) if variance > 0.0 else 0.0


def normalize(window: Sequence[float]) -> list[float]:
    """Return the z-normal form of `window`: ``((x - x[0]) - shift) * scale`` for each point x."""
    shift, scale = statistics(window)
    return [(x - window[0] - shift) * scale for x in window]


def sum_in_order(terms: Sequence[float]) -> float:
    """Return the sum of `terms`, added from left to right with one rounding per addition.

    The builtin `sum` cannot be used: from Python 3.12 on it compensates rounding errors.
    """
    total = 0.0
    for term in terms:
        total += term
    return total
