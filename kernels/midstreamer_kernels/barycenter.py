"""DTW barycenter averaging: the average of many series along their warping paths.

Source: Petitjean, Ketterlin and Gancarski, Pattern Recognition 2011.

A point-by-point mean blurs a shape that comes a little earlier in one series than in another. DTW
barycenter averaging works in rounds. A round aligns every series with a centre by the warping path,
and moves each point of the centre to the mean of all points paired with that point. The mean is the
best value for fixed pairs, and the warping paths are the best pairs for a fixed centre. Hence the
inertia, the sum of squared distances from the centre to all series, falls in each round until
nothing changes. The result is a local minimum that depends on the centre of the first round. That
centre is the medoid: the series with the least inertia.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.band import half_width
from midstreamer_kernels.native.warping_path import least_path
from midstreamer_kernels.options import checked_count
from midstreamer_kernels.pairwise import pairwise
from midstreamer_kernels.series_checks import Floats, table

# Maximum number of series among which the medoid is chosen. The number of their pairwise distances
# grows with its square.
STARTS_MAX = 64


def barycenter(
    rows: ArrayLike | Sequence[ArrayLike], *, band: int | None = None, iterations: int = 10
) -> Floats:
    """Return an average of `rows`: a local minimum of the summed squared DTW distances to them.

    Parameters
    ----------
    rows : array_like, shape (p, n)
        An array, or a sequence of series of one length. Computed in float32 if all series are
        float32, else in float64. The series are not z-normalised.
    band : int, optional
        Half-width of the warping band in points: ``|i - j| <= band``. None is the full matrix.
    iterations : int
        Greatest number of rounds; 0 returns the first centre, see Notes. The rounds end early when
        a round does not lower the computed inertia, so a larger number never gives a worse result.

    Returns
    -------
    ndarray, shape (n,), float32 or float64

    Raises
    ------
    InputError
        `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`; see `errors`.

    Notes
    -----
    The first centre is the medoid of `rows`, or of 64 evenly spaced rows if there are more than 64.
    Of several medoids the first row is taken, so the result depends only on the arguments. A round
    takes O(p * n * n) time, with a band O(p * n * band).
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
    """Return a copy of the series with the least sum of squared distances to the others.

    If there are more than `STARTS_MAX` series, only `STARTS_MAX` of them are compared with each
    other. The indices of these series are evenly spaced.
    """
    spread = np.linspace(0, len(series) - 1, min(len(series), STARTS_MAX)).astype(np.intp)
    squares = pairwise(series[spread], band=band, threads=1) ** 2
    inertias = [math.fsum(row) for row in squares]  # exact, so equal series get equal inertias
    medoid: NDArray[Any] = series[spread[inertias.index(min(inertias))]].copy()
    return medoid


def _averaged(centre: Floats, series: Floats, band: int) -> tuple[float, Floats]:
    """Return the inertia of `centre`, and for each of its points the mean of the paired points."""
    inertia, sums, counts = 0.0, np.zeros(centre.size), np.zeros(centre.size)
    for points in series:
        squared, path = least_path(centre, points, band)
        inertia += squared
        paired = points[path[:, 1]].astype(np.float64)
        sums += np.bincount(path[:, 0], weights=paired, minlength=centre.size)
        counts += np.bincount(path[:, 0], minlength=centre.size)
    mean: NDArray[Any] = (sums / counts).astype(centre.dtype)
    return inertia, mean
