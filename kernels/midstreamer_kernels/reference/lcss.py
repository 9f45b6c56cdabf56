"""The longest common subsequence of two series (Vlachos, Kollios and Gunopulos 2002)."""

from __future__ import annotations

from collections.abc import Sequence


def lcss(a: Sequence[float], b: Sequence[float], epsilon: float, band: int | None = None) -> int:
    """Return the length of the longest common subsequence of `a` and `b`.

    Points a[i] and b[j] match when ``|a[i] - b[j]| <= epsilon`` and ``|i - j| <= band``.
    ``lengths[i][j]`` is the length for the first i points of `a` and the first j points of `b`.
    """
    width = max(len(a), len(b)) if band is None else band
    lengths = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            best = max(lengths[i - 1][j], lengths[i][j - 1])
            if abs(i - j) <= width and abs(a[i - 1] - b[j - 1]) <= epsilon:
                best = max(best, lengths[i - 1][j - 1] + 1)
            lengths[i][j] = best
    return lengths[-1][-1]
