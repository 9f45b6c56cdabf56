"""The z-normal form of a window: mean 0, population deviation 1; a constant window is zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence


def statistics(window: Sequence[float]) -> tuple[float, float]:
    """Return (shift, scale): the mean of ``x - x[0]``, and one over the deviation or 0.

    Measuring from the window's own first point keeps a constant window at exactly zero variance.
    """
    mean = sum_in_order([x - window[0] for x in window]) / len(window)
    deviations = [x - window[0] - mean for x in window]
    variance = sum_in_order([d * d for d in deviations]) / len(window)
    return mean, 1.0 / math.sqrt(variance) if variance > 0.0 else 0.0


def normalize(window: Sequence[float]) -> list[float]:
    """Return the window z-normalised."""
    shift, scale = statistics(window)
    return [(x - window[0] - shift) * scale for x in window]


def sum_in_order(terms: Sequence[float]) -> float:
    """Add from left to right with one rounding each; the builtin compensates from 3.12 on."""
    total = 0.0
    for term in terms:
        total += term
    return total
