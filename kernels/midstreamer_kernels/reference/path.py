"""The warping path of two series, read backwards from the full DTW cost matrix."""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer_kernels.reference.dtw import cost_matrix


def least_path(a: Sequence[float], b: Sequence[float], band: int | None) -> list[tuple[int, int]]:
    """Return the pairs (i, j) of the warping path with the least cost, from (0, 0) to the end.

    The path is followed backwards from the last cell, always to the neighbour of least cost. Of
    equal costs, the diagonal neighbour is taken first, then (i - 1, j), then (i, j - 1).
    """
    costs = cost_matrix(a, b, max(len(a), len(b)) if band is None else band)
    i, j = len(a) - 1, len(b) - 1
    path = [(i, j)]
    while (i, j) != (0, 0):
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        inside = [(row, column) for row, column in before if row >= 0 and column >= 0]
        i, j = min(inside, key=lambda pair: costs[pair[0]][pair[1]])
        path.append((i, j))
    return path[::-1]
