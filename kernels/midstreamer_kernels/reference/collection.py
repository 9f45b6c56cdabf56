"""Search of a collection by brute force: compare every row and sort by distance."""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer_kernels.reference.dtw import dtw
from midstreamer_kernels.reference.lcss import lcss
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
        if measure == "dtw":
            distance = dtw(wanted, row, band)
        elif measure == "lcss":
            distance = 1.0 - lcss(wanted, row, epsilon, band) / min(len(wanted), len(row))
        else:
            raise ValueError(f"the measure {measure!r} has no definition here")
        if cutoff is None or distance <= cutoff:
            found.append((distance, number))
    return [(number, distance) for distance, number in sorted(found)[:k]]
