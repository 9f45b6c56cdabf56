"""DTW barycenter averaging as published (Petitjean, Ketterlin and Gancarski 2011)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from midstreamer_kernels.reference.dtw import cost_matrix, dtw
from midstreamer_kernels.reference.path import least_path


def barycenter(rows: Sequence[Sequence[float]], band: int, iterations: int) -> list[float]:
    """Return the DTW barycenter of `rows`: their medoid, improved `iterations` times at most."""
    spreads = [math.fsum(dtw(row, other, band) ** 2 for other in rows) for row in rows]
    centre = list(rows[spreads.index(min(spreads))])
    for _ in range(iterations):
        mean = averaged(centre, rows, band)
        if not inertia(mean, rows, band) < inertia(centre, rows, band):
            break
        centre = mean
    return centre


def inertia(centre: Sequence[float], rows: Sequence[Sequence[float]], band: int) -> float:
    """Return the sum of the squared DTW distances from `centre` to all `rows`."""
    total = 0.0
    for row in rows:
        total += cost_matrix(centre, row, band)[-1][-1]
    return total


def averaged(centre: Sequence[float], rows: Sequence[Sequence[float]], band: int) -> list[float]:
    """Return, for each point of `centre`, the mean of all points of `rows` paired with that point.

    Points are paired by the warping paths from `centre` to each row.
    """
    sums, counts = [0.0] * len(centre), [0] * len(centre)
    for row in rows:
        parts = [0.0] * len(centre)
        for i, j in least_path(centre, row, band):
            parts[i] += row[j]
            counts[i] += 1
        sums = [total + part for total, part in zip(sums, parts, strict=True)]
    return [total / count for total, count in zip(sums, counts, strict=True)]
