"""The points of one history and the statistics of its windows, kept as points are appended.

Both live in buffers that double when full, so an append costs the points appended. Statistics are
made on the first search with a length and extended by the next searches: one more point costs one
more window. Each window's numbers are a pure function of its own points (see `native.windows`), so
they do not depend on how the points came.

Safe for threads: one lock guards every change; a snapshot stays valid while the history grows,
because buffers are replaced, never moved, and what is in use is never rewritten. Statistics are
made in parts, and the lock is given back between two: a search that waits for it can be stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.series import Floats
from midstreamer_kernels.stop import NEVER, Stop

CAPACITY_MIN = 64
POINTS_AT_ONCE = 1 << 21  # of windows whose statistics are made before the lock is given back
LENGTHS_MAX = 8  # window lengths with kept statistics; the one longest unused is dropped

FillStatistics = Callable[
    [Floats, int, int, int, NDArray[np.float64], NDArray[np.float64]], None
]  # values, length, begin, end, shift, scale


class _Buffer:
    """A growing array with its address, which numpy takes a microsecond to tell."""

    __slots__ = ("address", "array")

    def __init__(self, dtype: Any) -> None:
        self.array = np.empty(CAPACITY_MIN, dtype)
        self.address: int = self.array.ctypes.data

    def reserve(self, used: int, wanted: int) -> None:
        if wanted <= self.array.size:
            return
        grown = np.empty(max(wanted, 2 * self.array.size), self.array.dtype)
        grown[:used] = self.array[:used]
        self.array, self.address = grown, grown.ctypes.data


class _Statistics:
    __slots__ = ("known", "scale", "shift")

    def __init__(self) -> None:
        self.shift, self.scale, self.known = _Buffer(np.float64), _Buffer(np.float64), 0


class Snapshot(NamedTuple):
    """What a search reads. `kept` holds the arrays behind the addresses alive."""

    values_address: int
    shift_address: int
    scale_address: int
    item_bytes: int
    points: int
    kept: tuple[Any, ...]


class Storage:
    """Points of one type with the statistics of their windows."""

    def __init__(self, dtype: np.dtype[Any], start: int) -> None:
        self.dtype = dtype
        self.start = start  # absolute position of the first point
        self.count = 0
        self._points = _Buffer(dtype)
        self._statistics: dict[int, _Statistics] = {}
        self._lock = threading.Lock()

    def append(self, values: Floats) -> None:
        """Take over a copy of `values`."""
        with self._lock:
            wanted = self.count + values.size
            self._points.reserve(self.count, wanted)
            self._points.array[self.count : wanted] = values
            self.count = wanted

    def read(self, begin: int, end: int) -> Floats:
        """Return a copy of the points [begin, end)."""
        with self._lock:
            copied: Floats = self._points.array[begin:end].copy()
            return copied

    def snapshot(self, length: int, fill: FillStatistics | None, stop: Stop = NEVER) -> Snapshot:
        """Return what a search for windows of `length` reads; statistics only with `fill`.

        Raises `StoppedError` when `stop` is set before all statistics are made; those that are made
        are kept.
        """
        kept = None
        while True:
            with self._lock:
                points, item_bytes = self._points, self.dtype.itemsize
                if fill is None or self.count < length:
                    return Snapshot(points.address, 0, 0, item_bytes, self.count, (points.array,))
                if kept is None:
                    kept = self._kept(length)
                windows = self.count - length + 1
                if kept.known == windows or self._extended(kept, length, windows, fill):
                    return Snapshot(
                        points.address,
                        kept.shift.address,
                        kept.scale.address,
                        item_bytes,
                        self.count,
                        (points.array, kept.shift.array, kept.scale.array),
                    )
            stop.check()

    def _kept(self, length: int) -> _Statistics:
        kept = self._statistics.pop(length, None) or _Statistics()
        self._statistics[length] = kept  # the newest use is last
        if len(self._statistics) > LENGTHS_MAX:
            del self._statistics[next(iter(self._statistics))]
        return kept

    def _extended(self, kept: _Statistics, length: int, windows: int, fill: FillStatistics) -> bool:
        """Make the next part of the statistics that are missing; return whether it is the last."""
        kept.shift.reserve(kept.known, windows)
        kept.scale.reserve(kept.known, windows)
        points = self._points.array[: self.count]
        end = min(windows, kept.known + max(1, POINTS_AT_ONCE // length))
        fill(points, length, kept.known, end, kept.shift.array, kept.scale.array)
        kept.known = end
        return end == windows
