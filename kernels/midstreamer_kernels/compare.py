"""Two series compared whole: distance, common subsequence, similarity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.band import half_width
from midstreamer_kernels.engines import backend
from midstreamer_kernels.native.path import least_path
from midstreamer_kernels.options import checked_distance, checked_epsilon, checked_measure
from midstreamer_kernels.series import Floats, filled

# Rounding of the cutoff's square; partial sums never exceed the sum, so no more room is needed.
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
        Computed in float32 when both are float32, else in float64. Not normalised.
    band : int, optional
        Sakoe-Chiba half-width in points: ``|i - j| <= band``. None is the full matrix; 0 with
        equal lengths is the Euclidean distance.
    cutoff : float, optional
        Above this distance (itself included in what is kept) the answer is infinity, found sooner.
    engine : {"auto", "numba", "wasm"}
        Engines give the same bits.

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
    O(n * m) time, or O(n * band); O(n + m) memory. Sakoe and Chiba, 1978.
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
    """Return the dynamic time warping distance of two series and the path that has it.

    Parameters
    ----------
    a, b : array_like, shape (n,) and (m,)
        As in `dtw`.
    band : int, optional
        As in `dtw`.

    Returns
    -------
    distance : float
        The bits of ``dtw(a, b, band=band)``: the square root of what the path costs when the
        squared differences of its pairs are summed from its start, in the type of the series.
    path : ndarray, shape (length, 2), int64
        Pairs (i, j) from (0, 0) to (n - 1, m - 1); i, j or both grow by 1 from one to the next.
        Where several paths cost the same, the one that comes, looking back from its end, first by
        a step in both series, else by one in `a`, else by one in `b`.

    Raises
    ------
    InputError

    Notes
    -----
    O(n * m) time, or O(n * band). Two to four bits for each cell of the matrix or band; from 128 MB
    of them on, a few series' memory and twice the time instead.
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
    epsilon : float
        Two points match when they differ by at most this much, compared in float64 whatever the
        type of the series.
    band : int, optional
        Only points with ``|i - j| <= band`` match.
    engine : {"auto", "numba", "wasm"}

    Returns
    -------
    int
        Between 0 and ``min(n, m)``.

    Raises
    ------
    InputError

    Notes
    -----
    Vlachos, Kollios and Gunopulos, ICDE 2002. With numba 256 cells of the matrix at once, see
    `native.lcss`: O((n + m) log m + n * m / 256) time, O(n + m) memory.
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
    """Return how alike two series are, from 0 to 1 (equal).

    Parameters
    ----------
    a, b : array_like, shape (n,) and (m,)
    measure : {"dtw", "lcss"}
    band, epsilon
        As in `dtw` and `lcss`; `lcss` needs `epsilon`.

    Returns
    -------
    float
        DTW: ``1 / (1 + d / sqrt(max(n, m)))``. LCSS: ``length / min(n, m)``.

    Raises
    ------
    InputError
    """
    if checked_measure(measure) == "dtw":
        return 1.0 / (1.0 + dtw(a, b, band=band) / math.sqrt(max(np.size(a), np.size(b))))
    return lcss(a, b, epsilon=checked_epsilon(epsilon), band=band) / min(np.size(a), np.size(b))
