"""The distance of two series by each measure, used by the other reference functions."""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer_kernels.reference.dtw import dtw
from midstreamer_kernels.reference.lcss import lcss


def distance(
    measure: str,
    a: Sequence[float],
    b: Sequence[float],
    *,
    band: int | None = None,
    epsilon: float = 0.0,
) -> float:
    """Return the distance of two series; raise ValueError for a measure that is not defined here.

    The distance of ``lcss`` is ``1 - length / min(n, m)``, where length is that of the longest
    common subsequence.
    """
    if measure == "dtw":
        return dtw(a, b, band)
    if measure == "lcss":
        return 1.0 - lcss(a, b, epsilon, band) / min(len(a), len(b))
    raise ValueError(f"the measure {measure!r} has no definition here")
