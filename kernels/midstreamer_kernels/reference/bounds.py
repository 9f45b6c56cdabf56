"""The LB_Keogh lower bound of DTW, from the query's envelope."""

from __future__ import annotations

from collections.abc import Sequence


def envelope(query: Sequence[float], band: int) -> tuple[list[float], list[float]]:
    """Return the envelope: maximum and minimum of `query` within `band` points of each index."""
    around = [query[max(0, i - band) : i + band + 1] for i in range(len(query))]
    return [max(part) for part in around], [min(part) for part in around]


def excesses(window: Sequence[float], query: Sequence[float], band: int) -> list[float]:
    """Return how far each point of `window` lies outside of the query's envelope, 0 if inside.

    The sum of the squares is LB_Keogh, a lower bound of the squared DTW distance.
    """
    upper, lower = envelope(query, band)
    return [max(x - high, low - x, 0.0) for x, high, low in zip(window, upper, lower, strict=True)]
