"""Patterns looked for in a stream: each new point is compared at once, and costs the same for ever.

Two ways. *Plain*: which sub-sequences of any length are like a pattern, by dynamic time warping;
the best of those that overlap is reported, at the earliest moment at which no later point can
change it (SPRING: Sakurai, Faloutsos and Yamamuro, ICDE 2007). *Normalised*: whether the last m
points, z-normalised, are like a pattern of m points.

Deliberately absent: work in several threads. A monitor belongs to one stream, whose points come in
order; a lock keeps it whole when several threads push.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.errors import NotFiniteError, OptionError, ShapeError
from midstreamer_kernels.options import checked_distance, checked_flag
from midstreamer_kernels.series import MAGNITUDE_MAX, filled, floats
from midstreamer_kernels.trail import Trail
from midstreamer_kernels.watch import Match, Watch

_MOST = MAGNITUDE_MAX[np.dtype(np.float64)]


class Detection(NamedTuple):
    """A part of the stream that is like a pattern."""

    start: int
    """Position of its first point; the first point pushed has position 0."""
    end: int
    """One past the position of its last point: it has ``end - start`` points."""
    pattern: int
    """Which pattern, by its place in what the monitor was given."""
    distance: float
    """DTW distance to the pattern, at most the threshold."""


class Monitor:
    """Looks for patterns in a stream of points.

    Parameters
    ----------
    patterns : sequence of array_like, each of shape (m,)
        One or more series, copied; lengths may differ. The rows of an array of two dimensions will
        do.
    threshold : float
        The greatest distance of a detection, itself included; finite.
    normalize : bool
        False: any sub-sequence may be like a pattern, whatever its length. True: the last m points
        are compared with each pattern of m points, both z-normalised.
    band : int, optional
        Only with `normalize`: ``|i - j| <= band``; None is the full matrix, 0 the Euclidean
        distance.

    Raises
    ------
    InputError
        `ShapeError`, `NotFiniteError`, `OptionError` or `BandError`, before any computing.

    Notes
    -----
    Plain: reported sub-sequences of one pattern do not overlap, and from each sub-sequence within
    the threshold one comes to a reported one through sub-sequences that overlap, each at least as
    near as the one before. Of equally near ones the one that ends first counts, and of those with
    one end the shortest (unless it is only rounding that makes them equal). After a report the
    search begins anew right behind it, as though the stream began there; in the original, paths
    that are given up may have displaced others.

    Distances are computed in float64 and equal brute force over all sub-sequences to the bit, after
    any number of points. O(m) time a point for each pattern, less while nothing is alike. Remembers
    some hundred thousand points, and more only while a match has not become certain.
    """

    __slots__ = ("_lock", "_one", "_patterns", "_search", "_settings")

    def __init__(
        self,
        patterns: Sequence[ArrayLike] | NDArray[np.float64] | NDArray[np.float32],
        *,
        threshold: float,
        normalize: bool = False,
        band: int | None = None,
    ) -> None:
        self._patterns = _checked_patterns(patterns)
        most = checked_distance(threshold, name="threshold")
        if not math.isfinite(most):
            raise OptionError(f"threshold is {threshold}: give a finite number")
        if band is not None and not normalize:
            raise OptionError(
                f"band is {band!r} without normalize: a sub-sequence of any length has no diagonal "
                "to keep to; give normalize=True, or no band"
            )
        self._settings = most, checked_flag(normalize, name="normalize"), band
        self._one = np.empty(1)
        self._lock = threading.Lock()
        self._search = self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle takes along."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it over, with a lock of its own."""
        for name, value in state.items():
            setattr(self, name, value)
        self._lock = threading.Lock()

    def _begin(self) -> Watch | Trail:
        most, normalize, band = self._settings
        return Trail(self._patterns, most, band) if normalize else Watch(self._patterns, most)

    @property
    def position(self) -> int:
        """The position of the next point: how many were pushed."""
        return self._search.count

    def push(self, value: float) -> list[Detection]:
        """Take the next point; return what it makes certain, by pattern and then by position.

        Plain: a detection ends at this point or before it. Normalised: at this point.

        Raises
        ------
        NotFiniteError
            NaN, infinite, or too large to be squared; names the position in the stream. The point
            is not taken: the next one pushed has its position.
        ShapeError
            Not a number.
        """
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ShapeError(f"value is not a number: {error}") from None
        if not -_MOST <= number <= _MOST:
            self._refuse(np.array([number]))
        with self._lock:
            self._one[0] = number
            found = self._search.take(self._one)
        return _told(found) if found else []

    def extend(self, values: ArrayLike) -> list[Detection]:
        """Take many points, shape (n,); return what `push` for each would, one after the other.

        When one of them is refused none is taken.
        """
        try:
            points = floats(values, name="values", dtype=np.float64)
        except NotFiniteError:
            self._refuse(np.asarray(values, dtype=np.float64))
        with self._lock:
            found = self._search.take(cast("NDArray[np.float64]", points))
        return _told(found)

    def finish(self) -> list[Detection]:
        """End the stream: return the matches that only a later point could have changed.

        The monitor is as new afterwards; the next point has position 0.
        """
        with self._lock:
            found = self._search.finish()
            self._search = self._begin()
        return _told(found)

    def _refuse(self, values: NDArray[np.float64]) -> None:
        bad = int(np.argmin(np.abs(values) <= _MOST))
        where = f"at position {self.position + bad} of the stream"
        if np.isfinite(values[bad]):
            raise NotFiniteError(
                f"{values[bad]:g} {where} is beyond {_MOST:g}, the most that can be squared and "
                "summed: scale the stream"
            )
        raise NotFiniteError(f"{values[bad]} {where}: leave it out, or fill it")


def _told(found: list[Match]) -> list[Detection]:
    return [Detection(start, end, pattern, distance) for pattern, start, end, distance in found]


def _checked_patterns(patterns: object) -> list[NDArray[np.float64]]:
    given = list(cast("Sequence[ArrayLike]", patterns)) if np.iterable(patterns) else []
    if not given:
        raise ShapeError("patterns is empty: give at least one series")
    if np.isscalar(given[0]) or getattr(given[0], "shape", None) == ():
        raise ShapeError("patterns is one series: give a list of series")
    return [
        cast(
            "NDArray[np.float64]",
            filled(pattern, name=f"pattern {number}", dtype=np.float64).copy(),
        )
        for number, pattern in enumerate(given)
    ]
