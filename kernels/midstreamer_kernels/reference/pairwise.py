"""All distances between the series of two tables, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer_kernels.reference.dtw import dtw
from midstreamer_kernels.reference.lcss import lcss


def pairwise(
    rows: Sequence[Sequence[float]],
    columns: Sequence[Sequence[float]],
    band: int | None,
    epsilon: float | None,
) -> list[list[float]]:
    """Return DTW distances, or with an `epsilon` ``1 - LCSS / (length of the shorter series)``."""
    if epsilon is None:
        return [[dtw(a, b, band) for b in columns] for a in rows]
    return [[1.0 - lcss(a, b, epsilon, band) / min(len(a), len(b)) for b in columns] for a in rows]
