"""The series in the middle of many, by averaging along warping paths.

DTW barycenter averaging, Petitjean, Ketterlin and Gancarski, Pattern Recognition 2011.

The mean of series point by point blurs whatever happens a little earlier in one than in another.
Here every series is aligned with the centre by its warping path, and each point of the centre moves
to the mean of all points paired with it. For fixed pairs that is the best place, and for a fixed
centre the paths are the best pairs: the inertia, the sum of squared distances from the centre to
all series, falls with each round until nothing moves. What it ends in is a local minimum, which
depends on the start: a series that exists, the one in the middle of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.band import half_width
from midstreamer_kernels.native.path import least_path
from midstreamer_kernels.options import checked_count
from midstreamer_kernels.pairwise import pairwise
from midstreamer_kernels.series import Floats, table

STARTS_MAX = 64  # series among which the start is sought: their distances grow with the square


def barycenter(
    rows: ArrayLike | Sequence[ArrayLike], *, band: int | None = None, iterations: int = 10
) -> Floats:
    """Return the series with the least sum of squared DTW distances to all `rows` that is found.

    Parameters
    ----------
    rows : array_like, shape (p, n)
        An array, or a sequence of series of one length; computed in float32 when all series are,
        else in float64. Not normalised.
    band : int, optional
        As in `dtw`.
    iterations : int
        Rounds at most, 0 for the start alone. Fewer are made when a round no longer lowers the
        inertia, rounding included: one more iteration never gives a worse answer.

    Returns
    -------
    ndarray, shape (n,), float32 or float64

    Raises
    ------
    InputError
        `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`; see `errors`.

    Notes
    -----
    The start is the medoid: of `rows`, or where they are more than 64, of 64 evenly spread among
    them; the first where several are. So the answer depends on nothing but the arguments.
    O(p * n * n) time for each round, with a band O(p * n * band).
    """
    series = table(rows, name="rows")
    width = half_width(band, series.shape[1], series.shape[1])
    rounds = checked_count(iterations, name="iterations", least=0)
    centre = _medoid(series, width)
    inertia, mean = _averaged(centre, series, width)
    for _ in range(rounds):
        new_inertia, new_mean = _averaged(mean, series, width)
        if not new_inertia < inertia:
            break
        centre, inertia, mean = mean, new_inertia, new_mean
    return centre


def _medoid(series: Floats, band: int) -> Floats:
    """Return a copy of the series with the least sum of squared distances to the others."""
    spread = np.linspace(0, len(series) - 1, min(len(series), STARTS_MAX)).astype(np.intp)
    squares = pairwise(series[spread], band=band, threads=1) ** 2
    inertias = [math.fsum(row) for row in squares]  # exact: copies of a series are equal
    medoid: NDArray[Any] = series[spread[inertias.index(min(inertias))]].copy()
    return medoid


def _averaged(centre: Floats, series: Floats, band: int) -> tuple[float, Floats]:
    """Return the inertia around `centre`, and the mean of what is paired with each point."""
    inertia, sums, counts = 0.0, np.zeros(centre.size), np.zeros(centre.size)
    for points in series:
        squared, path = least_path(centre, points, band)
        inertia += squared
        paired = points[path[:, 1]].astype(np.float64)
        sums += np.bincount(path[:, 0], weights=paired, minlength=centre.size)
        counts += np.bincount(path[:, 0], minlength=centre.size)
    mean: NDArray[Any] = (sums / counts).astype(centre.dtype)
    return inertia, mean
