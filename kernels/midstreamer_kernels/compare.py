"""Comparison of two whole series: DTW distance and path, LCSS length, similarity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.band import half_width
from midstreamer_kernels.engines import backend
from midstreamer_kernels.native.warping_path import least_path
from midstreamer_kernels.options import checked_distance, checked_epsilon, checked_measure
from midstreamer_kernels.series_checks import Floats, filled

# A comparison stops early when the partial sums of all paths exceed a limit. The limit is the
# squared cutoff, increased by this relative tolerance, because squaring rounds. A partial sum never
# exceeds the total of its path, so stopping early needs no larger tolerance.
_SLACK = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    left, right = filled(a, name="a"), filled(b, name="b")
    if left.dtype != right.dtype:
        return left.astype(np.float64), right.astype(np.float64)
    return left, right


def dtw(
    a: ArrayLike,
    b: ArrayLike,
    *,
    band: int | None = None,
    cutoff: float | None = None,
    engine: str = "auto",
) -> float:
    """Return the dynamic time warping distance of two series.

    Parameters
    ----------
    a, b : array_like, shape (n,) and (m,)
        Computed in float32 when both are float32, else in float64. The series are not z-normalised.
    band : int, optional
        Sakoe-Chiba half-width in points: ``|i - j| <= band``. None is the full matrix; 0 with
        equal lengths is the Euclidean distance.
    cutoff : float, optional
        The greatest distance of interest. A distance greater than `cutoff` is returned as infinity,
        and the comparison may stop early.
    engine : {"auto", "numba", "wasm"}
        Both engines return the same bits.

    Returns
    -------
    float
        Square root of the summed squared differences along the best path, as in the UCR archive.

    Raises
    ------
    InputError
        `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`; see `errors`.

    Notes
    -----
    O(n * m) time, with a band O(n * band). O(n + m) memory. Source: Sakoe and Chiba, 1978.
    """
    left, right = _pair(a, b)
    width = half_width(band, left.size, right.size)
    most = checked_distance(cutoff, name="cutoff")
    limit = most * most * (1.0 + _SLACK[left.dtype])
    squared = backend(engine).dtw_squared(left, right, width, limit)
    distance = float(np.sqrt(left.dtype.type(squared)))
    return distance if distance <= most else math.inf


def dtw_path(
    a: ArrayLike, b: ArrayLike, *, band: int | None = None
) -> tuple[float, NDArray[np.int64]]:
    """Return the dynamic time warping distance of two series and the warping path.

    Parameters
    ----------
    a, b : array_like, shape (n,) and (m,)
        Computed in float32 when both are float32, else in float64. The series are not z-normalised.
    band : int, optional
        Sakoe-Chiba half-width in points: ``|i - j| <= band``. None is the full matrix.

    Returns
    -------
    distance : float
        The same bits as ``dtw(a, b, band=band)``: the square root of the sum of the squared
        differences of the path's pairs. The sum begins at the start of the path and has the type of
        the series.
    path : ndarray, shape (length, 2), int64
        Pairs (i, j) from (0, 0) to (n - 1, m - 1). From one pair to the next, i, j or both grow
        by 1. If several paths cost the same, the path is chosen backwards from the end: a step in
        both series is preferred, next a step in `a` only, last a step in `b` only.

    Raises
    ------
    InputError
        `NotFiniteError`, `ShapeError` or `BandError`; see `errors`.

    Notes
    -----
    O(n * m) time, with a band O(n * band). The memory is two to four bits per cell of the matrix or
    band. If that would exceed 128 MB, the memory is a few times that of the series, and the time
    doubles.
    """
    left, right = _pair(a, b)
    squared, path = least_path(left, right, half_width(band, left.size, right.size))
    return float(np.sqrt(left.dtype.type(squared))), path


def lcss(
    a: ArrayLike,
    b: ArrayLike,
    *,
    epsilon: float,
    band: int | None = None,
    engine: str = "auto",
) -> int:
    """Return the length of the longest common subsequence of two series.

    Parameters
    ----------
    a, b : array_like, shape (n,) and (m,)
        Converted to float64.
    epsilon : float
        Two points match when their difference, computed in float64, is at most `epsilon`.
    band : int, optional
        Only points with ``|i - j| <= band`` match. None is the full matrix.
    engine : {"auto", "numba", "wasm"}
        Both engines return the same length.

    Returns
    -------
    int
        Number of matched points, between 0 and ``min(n, m)``.

    Raises
    ------
    InputError
        `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`; see `errors`.

    Notes
    -----
    Source: Vlachos, Kollios and Gunopulos, ICDE 2002. The numba engine computes 256 cells of the
    matrix at once (see `native.lcss`): O((n + m) log m + n * m / 256) time, O(n + m) memory.
    """
    left = filled(a, name="a", dtype=np.float64)
    right = filled(b, name="b", dtype=np.float64)
    width = half_width(band, left.size, right.size)
    reach = checked_epsilon(epsilon)
    return int(backend(engine).lcss_length(left, right, reach, width))


def similarity(
    a: ArrayLike,
    b: ArrayLike,
    *,
    measure: str = "dtw",
    band: int | None = None,
    epsilon: float | None = None,
) -> float:
    """Return the similarity of two series, a number from 0 to 1; 1 means equal.

    Parameters
    ----------
    a, b : array_like, shape (n,) and (m,)
    measure : {"dtw", "lcss"}
    band : int, optional
        Half-width of the band in points: ``|i - j| <= band``. None is the full matrix.
    epsilon : float
        The greatest difference of two points that match by LCSS. Required for "lcss" only.

    Returns
    -------
    float
        DTW: ``1 / (1 + d / sqrt(max(n, m)))`` with the DTW distance d. LCSS: the length of the
        longest common subsequence divided by ``min(n, m)``.

    Raises
    ------
    InputError
        `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`; see `errors`.
    """
    if checked_measure(measure) == "dtw":
        return 1.0 / (1.0 + dtw(a, b, band=band) / math.sqrt(max(np.size(a), np.size(b))))
    return lcss(a, b, epsilon=checked_epsilon(epsilon), band=band) / min(np.size(a), np.size(b))
