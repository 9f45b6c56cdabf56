"""All distances between the series of two tables, computed pair by pair."""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer_kernels.reference.measures import distance


def pairwise(
    rows: Sequence[Sequence[float]],
    columns: Sequence[Sequence[float]],
    measure: str,
    *,
    band: int | None,
    epsilon: float = 0.0,
) -> list[list[float]]:
    """Return the distance of every series in `rows` to every series in `columns`."""
    return [[distance(measure, a, b, band=band, epsilon=epsilon) for b in columns] for a in rows]
