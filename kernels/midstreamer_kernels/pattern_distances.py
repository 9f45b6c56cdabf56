"""Comparison of the last points of a stream with patterns of the same length, both z-normalised."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.band import half_width
from midstreamer_kernels.monitor_plain_mode import Match, greatest_square
from midstreamer_kernels.native import pattern_distances
from midstreamer_kernels.normal_forms import envelope_of, normal_rows

# Least number of points that fit into the buffer. When it is full, only its newest points are kept,
# as many as the longest pattern has. They are moved to the front of the buffer.
ROOM_LEAST = 4096


class Trail:
    """The newest points of one stream, compared with z-normalised patterns at each new point.

    The buffer holds as many points as the longest pattern has, or more.

    Parameters
    ----------
    patterns : list of ndarray of float64, each of shape (m,)
        Compared in z-normal form.
    threshold : float
        The greatest DTW distance that is reported; finite.
    band : int or None
        Warping band: ``|i - j| <= band``. None is the full matrix.
    """

    def __init__(
        self, patterns: list[NDArray[np.float64]], threshold: float, band: int | None
    ) -> None:
        self._limit = greatest_square(threshold)
        self._groups: list[tuple[int, int, NDArray[np.int64], pattern_distances.Group]] = []
        lengths = np.array([pattern.size for pattern in patterns])
        for length in np.unique(lengths).tolist():
            numbers = np.flatnonzero(lengths == length)
            width = half_width(band, length, length)
            group = _group([patterns[number] for number in numbers], width)
            self._groups.append((length, width, numbers, group))
        self._longest = int(lengths.max())
        self._history = np.empty(max(ROOM_LEAST, 2 * self._longest))
        self._held = 0
        self.count = 0

    def take(self, values: NDArray[np.float64]) -> list[Match]:
        """Add points, all finite, shape (n,); return the windows within the threshold.

        The windows are sorted by their end, then by pattern.
        """
        found: list[Match] = []
        for value in values.tolist():
            self._remember(value)
            found += sorted(self._now())
        return found

    def _now(self) -> list[Match]:
        found: list[Match] = []
        for length, band, numbers, group in self._groups:
            if self.count >= length:
                window = self._history[self._held - length : self._held]
                near = pattern_distances.near(window, group, band, self._limit)
                if near:
                    found += self._told(length, numbers, group, near)
        return found

    def finish(self) -> list[Match]:
        """Return an empty list: `take` reported each window when its last point arrived."""
        return []

    def _told(
        self, length: int, numbers: NDArray[np.int64], group: pattern_distances.Group, near: int
    ) -> list[Match]:
        rows, costs = numbers[group.found[:near]].tolist(), group.costs[:near].tolist()
        begin = self.count - length
        return [
            (number, begin, self.count, math.sqrt(cost))
            for number, cost in zip(rows, costs, strict=True)
        ]

    def _remember(self, value: float) -> None:
        if self._held == self._history.size:
            kept = self._history[self._held - self._longest :].copy()
            self._history[: kept.size] = kept
            self._held = kept.size
        self._history[self._held] = value
        self._held += 1
        self.count += 1


def _group(patterns: list[NDArray[np.float64]], band: int) -> pattern_distances.Group:
    """Return patterns of one length in z-normal form, with their LB_Keogh envelopes."""
    rows = normal_rows(np.stack(patterns))
    count, length = rows.shape
    sides = zip(*(envelope_of(row, band, length) for row in rows), strict=True)
    upper, lower = (np.concatenate(side) for side in sides)
    return pattern_distances.Group(
        rows.ravel(), upper, lower, np.empty(length), np.empty(count, np.int64), np.empty(count)
    )
