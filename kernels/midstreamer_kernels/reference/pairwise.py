"""All distances between the series of two tables, computed pair by pair."""

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
    """Return the distance of every series in `rows` to every series in `columns`.

    DTW distances; with an `epsilon`, LCSS distances: ``1 - length / min(n, m)``.
    """
    if epsilon is None:
        return [[dtw(a, b, band) for b in columns] for a in rows]
    return [[1.0 - lcss(a, b, epsilon, band) / min(len(a), len(b)) for b in columns] for a in rows]
