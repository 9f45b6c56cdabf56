"""Search of a collection by brute force: compare every row and sort by distance."""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer_kernels.reference.measures import distance
from midstreamer_kernels.reference.normal import normalize


def nearest(
    rows: Sequence[Sequence[float]],
    query: Sequence[float],
    k: int | None,
    *,
    normalized: bool = False,
    measure: str = "dtw",
    epsilon: float = 0.0,
    band: int | None = None,
    cutoff: float | None = None,
) -> list[tuple[int, float]]:
    """Return (row number, distance) of the `k` nearest rows, nearest first.

    The options are those of `midstreamer_kernels.collection.Collection.nearest`.
    """
    wanted, *compared = [normalize(one) if normalized else list(one) for one in (query, *rows)]
    found = []
    for number, row in enumerate(compared):
        value = distance(measure, wanted, row, band=band, epsilon=epsilon)
        if cutoff is None or value <= cutoff:
            found.append((value, number))
    return [(number, value) for value, number in sorted(found)[:k]]
