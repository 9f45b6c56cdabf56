"""Search for patterns in a stream, point by point; the cost of a point does not grow with time.

A `Monitor` works in one of two modes. *Plain*: it finds sub-sequences of any length whose DTW
distance to a pattern is within the threshold. Of sub-sequences that overlap, it reports the best,
as soon as no later point can change that choice (SPRING: Sakurai, Faloutsos and Yamamuro, ICDE
2007). *Normalised*: it compares the last m points with each pattern of m points, both z-normalised.

A monitor deliberately uses only one thread, because it belongs to one stream whose points arrive in
order. A lock protects its state when several threads push points.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.errors import NotFiniteError, OptionError, ShapeError
from midstreamer_kernels.monitor_plain_mode import Match, Watch
from midstreamer_kernels.options import checked_distance, checked_flag
from midstreamer_kernels.pattern_distances import Trail
from midstreamer_kernels.series_checks import MAGNITUDE_MAX, filled, floats

_MOST = MAGNITUDE_MAX[np.dtype(np.float64)]


class Detection(NamedTuple):
    """A sub-sequence of the stream that matches a pattern."""

    start: int
    """Position of the first point of the sub-sequence; the first point pushed has position 0."""
    end: int
    """Position after the sub-sequence's last point; the sub-sequence has ``end - start`` points."""
    pattern: int
    """Index of the pattern in the sequence that the monitor received."""
    distance: float
    """DTW distance of the sub-sequence to the pattern, at most the threshold."""


class Monitor:
    """Finds sub-sequences of a stream that match given patterns.

    Parameters
    ----------
    patterns : sequence of array_like, each of shape (m,)
        One or more series, copied; lengths may differ. A two-dimensional array gives one pattern
        per row.
    threshold : float
        The greatest distance of a detection; finite. A distance equal to `threshold` is reported.
    normalize : bool
        False (plain mode): a sub-sequence of any length can match. True (normalised mode): the last
        m points are compared with each pattern of m points, both z-normalised.
    band : int, optional
        Warping band ``|i - j| <= band``, only with `normalize`. None is the full matrix, 0 the
        Euclidean distance.

    Raises
    ------
    InputError
        `ShapeError`, `NotFiniteError`, `OptionError` or `BandError`, before any computing.

    Notes
    -----
    In plain mode the sub-sequences reported for one pattern do not overlap. If a sub-sequence
    within the threshold is not reported, it overlaps a second sub-sequence that is at least as near
    to the pattern. If the second sub-sequence is not reported either, it overlaps a third
    sub-sequence that is at least as near, and so on. This chain ends at a reported sub-sequence.

    Of equally near sub-sequences the one that ends first is reported, and of those with the same
    end the shortest. (If rounding alone makes two distances equal, the longer one may be reported.)
    After a report the search starts again at the reported end, as if the stream began there. The
    published SPRING differs: after a report it only removes the paths that began before the
    reported end. Such a path may already have displaced another one, whose match is then lost.

    Distances are computed in float64 and have the same bits as brute force over all sub-sequences,
    however many points the stream has. A point takes O(m) time for each pattern, and less while
    nothing is similar. The monitor keeps a few hundred thousand points, and more only while a match
    may still change.
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
                f"band is {band!r} without normalize: a sub-sequence may then have any length, so "
                "there is no diagonal for a band; give normalize=True, or no band"
            )
        self._settings = most, checked_flag(normalize, name="normalize"), band
        self._one = np.empty(1)
        self._lock = threading.Lock()
        self._search = self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy or a pickle: every attribute except the lock."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state of a copy or a pickle, with a new lock."""
        for name, value in state.items():
            setattr(self, name, value)
        self._lock = threading.Lock()

    def _begin(self) -> Watch | Trail:
        most, normalize, band = self._settings
        return Trail(self._patterns, most, band) if normalize else Watch(self._patterns, most)

    @property
    def position(self) -> int:
        """Position of the next point, which is the number of points pushed so far."""
        return self._search.count

    def push(self, value: float) -> list[Detection]:
        """Add a point; return the detections that are now final, sorted by pattern and start.

        In plain mode a detection ends at this point or earlier, in normalised mode at this point.

        Raises
        ------
        NotFiniteError
            `value` is NaN, infinite, or too large to be squared; the message names its position in
            the stream. The point is not added, so the next point gets this position.
        ShapeError
            `value` is not a number.
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
        """Add many points, shape (n,); return the detections of all of them in order.

        The result equals calling `push` for each point. If one point is refused, none is added.
        """
        try:
            points = floats(values, name="values", dtype=np.float64)
        except NotFiniteError:
            self._refuse(np.asarray(values, dtype=np.float64))
        with self._lock:
            found = self._search.take(cast("NDArray[np.float64]", points))
        return _told(found)

    def finish(self) -> list[Detection]:
        """End the stream; return the detections that become final because no more points come.

        Afterwards the monitor starts a new stream: the next point has position 0.
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
        raise NotFiniteError(f"{values[bad]} {where}: leave the point out, or fill in a number")


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
