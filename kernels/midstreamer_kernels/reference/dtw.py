"""Dynamic time warping, computed by its recurrence (Sakoe and Chiba 1978)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cost_matrix(a: Sequence[float], b: Sequence[float], band: int) -> list[list[float]]:
    """Return the DTW cost matrix D of shape (n, m), for `a` of n points and `b` of m points.

    ``D[i][j] = (a[i] - b[j])**2 + min(D[i-1][j-1], D[i-1][j], D[i][j-1])`` where
    ``|i - j| <= band``; every path begins at (0, 0). Cells outside of the band are infinite.
    """
    costs = [[math.inf] * len(b) for _ in a]
    for i in range(len(a)):
        for j in range(len(b)):
            if abs(i - j) > band:
                continue
            before = 0.0 if i == j == 0 else math.inf
            if i > 0 and j > 0:
                before = min(before, costs[i - 1][j - 1])
            if i > 0:
                before = min(before, costs[i - 1][j])
            if j > 0:
                before = min(before, costs[i][j - 1])
            step = a[i] - b[j]
            costs[i][j] = before + step * step
    return costs


def dtw(a: Sequence[float], b: Sequence[float], band: int | None = None) -> float:
    """Return the DTW distance: the square root of the least sum of squared differences."""
    width = max(len(a), len(b)) if band is None else band
    return math.sqrt(cost_matrix(a, b, width)[-1][-1])
