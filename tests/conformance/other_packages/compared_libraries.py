"""The packages with which the kernels are compared, imported in one place.

Some packages raise warnings from their dependencies on import. Warnings are errors in the tests, so
they are ignored during the import. Each package defines a band differently: the functions here take
the band as the kernels define it.
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
    """Return dtaidistance's DTW distance; with a band, the lengths must be equal.

    Its parameter `window` is the band plus one. Pruning is off: with pruning, dtaidistance returns
    infinity when rounding lifts a distance above the bound of the pruning.
    """
    window = None if band is None else band + 1
    return float(dtaidistance.dtw.distance_fast(a, b, window=window, use_pruning=False))


def aeon_dtw(a: Floats, b: Floats, band: int | None) -> float:
    """Return aeon's DTW distance as the kernels define it.

    aeon takes the band as a share of the length, and returns the square of the distance.
    """
    return float(aeon.distances.dtw_distance(a, b, window=_share(a, band)) ** 0.5)


def aeon_lcss(a: Floats, b: Floats, epsilon: float, band: int | None) -> int:
    """Return the LCSS length, computed from aeon's LCSS distance.

    The distance is 1 minus a share: the LCSS length divided by the length of the shorter series.
    """
    distance = aeon.distances.lcss_distance(a, b, window=_share(a, band), epsilon=epsilon)
    return round((1 - float(distance)) * min(a.size, b.size))


def _share(a: Floats, band: int | None) -> float | None:
    # aeon multiplies the share by the length and rounds down; adding half a point keeps the band
    # exact.
    return None if band is None else min(1.0, (band + 0.5) / a.size)


def nearest_warped(query: Floats, values: Floats, band: int) -> tuple[int, float]:
    """Return start and distance of the nearest window by normalised DTW, as wildboar finds it.

    wildboar takes the band as a share of the length, and rounds it down to points.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about wildboar's calls
        distance, index = wildboar.distance.pairwise_subsequence_distance(
            query, values, metric="scaled_dtw", metric_params={"r": (band + 0.5) / query.size},
            return_index=True,
        )  # fmt: skip
    return int(index), float(distance)


def nearest_euclidean(query: Floats, values: Floats) -> tuple[int, float]:
    """Return start and Euclidean distance of the nearest normalised window, as stumpy finds it."""
    distances = stumpy.mass(query, values)
    return int(distances.argmin()), float(distances.min())
