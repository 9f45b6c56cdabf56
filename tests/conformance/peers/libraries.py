"""The packages that the kernels are held against, imported in one place.

Some warn while they are imported, about others; here warnings are errors, so they are kept quiet
for that moment. Each has its own word for a band: the functions below take ours.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import aeon
    import aeon.distances
    import dtaidistance.dtw
    import pyts
    import stumpy
    import tslearn
    import wildboar.distance

__all__ = ["aeon", "aeon_dtw", "aeon_lcss", "dtaidistance", "dtaidistance_dtw", "nearest_euclidean",
           "nearest_warped", "pyts", "tslearn"]  # fmt: skip

Floats = NDArray[np.float64]


def dtaidistance_dtw(a: Floats, b: Floats, band: int | None) -> float:
    """Its window is one more than the band; equal lengths, where a band is given.

    Without its pruning, which takes some answers for infinite when their last bit is rounded up.
    """
    window = None if band is None else band + 1
    return float(dtaidistance.dtw.distance_fast(a, b, window=window, use_pruning=False))


def aeon_dtw(a: Floats, b: Floats, band: int | None) -> float:
    """It leaves the root to the caller, and takes the band as a share of the length."""
    return float(aeon.distances.dtw_distance(a, b, window=_share(a, band)) ** 0.5)


def aeon_lcss(a: Floats, b: Floats, epsilon: float, band: int | None) -> int:
    """It says how much of the shorter series is not in common."""
    distance = aeon.distances.lcss_distance(a, b, window=_share(a, band), epsilon=epsilon)
    return round((1 - float(distance)) * min(a.size, b.size))


def _share(a: Floats, band: int | None) -> float | None:
    # aeon rounds down what it multiplies; half a point more keeps it from losing one.
    return None if band is None else min(1.0, (band + 0.5) / a.size)


def nearest_warped(query: Floats, values: Floats, band: int) -> tuple[int, float]:
    """The nearest window by normalised DTW, as wildboar finds it; it rounds the band down."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, to wildboar
        distance, index = wildboar.distance.pairwise_subsequence_distance(
            query, values, metric="scaled_dtw", metric_params={"r": (band + 0.5) / query.size},
            return_index=True,
        )  # fmt: skip
    return int(index), float(distance)


def nearest_euclidean(query: Floats, values: Floats) -> tuple[int, float]:
    """The nearest window without warping, as stumpy finds it."""
    distances = stumpy.mass(query, values)
    return int(distances.argmin()), float(distances.min())
