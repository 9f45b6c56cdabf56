"""Lower bounds of a comparison: what the envelope of the query alone forbids."""

from __future__ import annotations

from collections.abc import Sequence


def envelope(query: Sequence[float], band: int) -> tuple[list[float], list[float]]:
    """Return the highest and the lowest value of `query` within `band` of each place."""
    around = [query[max(0, i - band) : i + band + 1] for i in range(len(query))]
    return [max(part) for part in around], [min(part) for part in around]


def excesses(window: Sequence[float], query: Sequence[float], band: int) -> list[float]:
    """Return how far each point of `window` lies outside of the envelope."""
    upper, lower = envelope(query, band)
    return [max(x - high, low - x, 0.0) for x, high, low in zip(window, upper, lower, strict=True)]
