"""The points of one history and the statistics of its windows.

Points and statistics are in buffers that double when full, so the cost of an append is proportional
to the number of points appended. The first search with a window length computes the statistics of
all windows of that length; later searches add only those of new windows. The statistics of a window
are a pure function of the window's own points (see `native.windows`), so they do not depend on how
the points were appended.

The class `Storage` is thread-safe: one lock guards every change. A snapshot stays valid while the
history grows, because a full buffer is replaced by a new one, and used elements are never
overwritten. Statistics are computed in parts, and the lock is released between two parts, so that a
search that waits for the lock can be stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.series_checks import Floats
from midstreamer_kernels.stop import NEVER, Stop

CAPACITY_MIN = 64  # capacity of a new buffer, in elements
# Statistics are computed for a batch of windows, then the lock of `Storage` is released. The
# lengths of the windows in a batch add up to at most this number of points. A window that is longer
# than this number is a batch of its own.
POINTS_AT_ONCE = 1 << 21
LENGTHS_MAX = 8  # window lengths whose statistics are kept; the least recently used is evicted

FillStatistics = Callable[
    [Floats, int, int, int, NDArray[np.float64], NDArray[np.float64]], None
]  # arguments: values, length, begin, end, and shift and scale, which the function fills


class _Buffer:
    """A growing array. Its address is stored, because numpy takes a microsecond to return it."""

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
    """The addresses and sizes that one search reads. The field `kept` keeps the arrays at these
    addresses alive."""

    values_address: int
    shift_address: int
    scale_address: int
    item_bytes: int
    points: int
    kept: tuple[Any, ...]


class Storage:
    """The points of one history, float32 or float64, and the statistics of its windows."""

    def __init__(self, dtype: np.dtype[Any], start: int) -> None:
        self.dtype = dtype
        self.start = start  # absolute position of the first point
        self.count = 0
        self._points = _Buffer(dtype)
        self._statistics: dict[int, _Statistics] = {}
        self._lock = threading.Lock()

    def append(self, values: Floats) -> None:
        """Append a copy of `values`, shape (n,)."""
        with self._lock:
            wanted = self.count + values.size
            self._points.reserve(self.count, wanted)
            self._points.array[self.count : wanted] = values
            self.count = wanted

    def read(self, begin: int, end: int) -> Floats:
        """Return a copy of the points [begin, end), counted from the first stored point."""
        with self._lock:
            copied: Floats = self._points.array[begin:end].copy()
            return copied

    def snapshot(self, length: int, fill: FillStatistics | None, stop: Stop = NEVER) -> Snapshot:
        """Return the addresses and sizes that a search for windows of `length` points reads.

        `fill` computes the missing window statistics; without it the snapshot has no statistics.
        Raises `StoppedError` if `stop` is set before all statistics are computed; the statistics
        computed so far are kept.
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
        self._statistics[length] = kept  # keys are in the order of use, the latest last
        if len(self._statistics) > LENGTHS_MAX:
            del self._statistics[next(iter(self._statistics))]
        return kept

    def _extended(self, kept: _Statistics, length: int, windows: int, fill: FillStatistics) -> bool:
        """Compute missing statistics of some more windows; return whether all windows have them."""
        kept.shift.reserve(kept.known, windows)
        kept.scale.reserve(kept.known, windows)
        points = self._points.array[: self.count]
        end = min(windows, kept.known + max(1, POINTS_AT_ONCE // length))
        fill(points, length, kept.known, end, kept.shift.array, kept.scale.array)
        kept.known = end
        return end == windows
