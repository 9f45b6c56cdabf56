"""Search of a history by brute force: compare every window and sort by distance."""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer_kernels.reference.measures import distance
from midstreamer_kernels.reference.normal import normalize


def search(
    values: Sequence[float],
    query: Sequence[float],
    k: int | None,
    *,
    measure: str = "dtw",
    epsilon: float = 0.0,
    band: int | None = None,
    normalized: bool = True,
    start: int = 0,
    step: int = 1,
    first: int | None = None,
    last: int | None = None,
    until: int | None = None,
    cutoff: float | None = None,
    exclusion: int = 0,
) -> list[tuple[int, float]]:
    """Return (position, distance) of the `k` nearest windows, nearest first.

    The options are those of `midstreamer_kernels.search.History.search`.
    """
    m = len(query)
    shape = normalize if normalized else list
    wanted = shape(query)
    found = []
    for begin in range(len(values) - m + 1):
        position = start + begin
        if position % step or (until is not None and position + m > until):
            continue
        if (first is not None and position < first) or (last is not None and position >= last):
            continue
        window = shape(values[begin : begin + m])
        value = distance(measure, wanted, window, band=band, epsilon=epsilon)
        if cutoff is None or value <= cutoff:
            found.append((value, position))
    kept: list[tuple[int, float]] = []
    for value, position in sorted(found):
        if len(kept) == k:
            break
        if all(abs(position - other) >= exclusion for other, _ in kept):
            kept.append((position, value))
    return kept
