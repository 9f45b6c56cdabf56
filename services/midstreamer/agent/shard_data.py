"""The points of one shard, and the data derived from them: histories and ledgers.

A shard keeps its own points and some points after its end.  With those, every window that the shard
owns can be compared, its outcome can be computed, and the horizon after the outcome (the embargo)
can be checked.  Points arrive by absolute position, from loads and from the change feed.  Points
that the shard has are skipped; points that would leave a gap are refused.

Two kinds of data are derived when first needed and extended as points arrive: a kernel `History`
for each transform and window length, and a `Ledger` of outcomes for each `_Way`.

The event loop appends points while threads search.  Values below ``count`` are never rewritten, and
a full buffer is replaced by a larger one, so a reader that reads ``count`` first sees complete
points.  Derived data is extended under the lock of the shard.  Extending a ledger of long windows
takes long, so the lock is released after each part; between parts the search may be stopped.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple, TypeVar

import numpy as np

from midstreamer.agent.derived_data_limit import Derived
from midstreamer.analogs.outcome_ledger import Ledger
from midstreamer.domain import outcome
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import HORIZON_MAX, Scale, Specification, Transform
from midstreamer_kernels import History, Stop

KEPT_MAX = 16
"""Maximum number of histories (transformed points) that one shard keeps, and maximum number of its
ledgers (outcomes).  Beyond that, the least recently used history or ledger is evicted."""
HISTORY_POINT_BYTES = 24
"""Approximate bytes of one point in a history: its value and the statistics of its window."""
LEDGER_WINDOW_BYTES = 32
"""Bytes of one window in a ledger: its outcome, and three running counts of the windows so far."""
ENTRY_BYTES = 1024
"""Approximate bytes of an empty history or an empty ledger."""
_CAPACITY_MIN = 16

_Key = TypeVar("_Key")
_Made = TypeVar("_Made")


def reach(shard: Shard, points: int) -> int:
    """Return the position after the last point that a shard keeps; ``points`` is the shard size.

    This position is `Shard.stop` plus the longest horizon.  The points before `Shard.stop` suffice
    for the shard's last window and the outcome of that window.  The horizon after the outcome (the
    embargo) needs the points beyond.
    """
    return shard.stop(points) + HORIZON_MAX


class _Way(NamedTuple):
    """The key of a ledger: the parameters of a specification on which the outcomes depend."""

    window: int
    horizon: int
    grid: int
    transform: Transform
    scale: Scale


class Held:
    """The points of one shard in the memory of an agent, with the data derived from them."""

    def __init__(self, shard: Shard, points: int, derived: Derived | None = None) -> None:
        self.shard = shard
        self.first = shard.first(points)
        self.last = shard.last(points)
        self.stop = reach(shard, points)
        self.count = 0
        self._times = np.empty(_CAPACITY_MIN, dtype=np.int64)
        self._values = np.empty(_CAPACITY_MIN)
        self._histories: OrderedDict[tuple[Transform, int], History] = OrderedDict()
        self._ledgers: OrderedDict[_Way, Ledger] = OrderedDict()
        self._lock = threading.Lock()
        self._derived = derived or Derived()

    @property
    def end(self) -> int:
        """The position after the last point held."""
        return self.first + self.count

    def append(self, start: int, times: Integers, values: Floats) -> bool:
        """Append points whose first position is ``start``.

        ``times`` and ``values`` have shape (n,).  Points that the shard has, or does not need, are
        skipped.  Return False when the shard needs points before ``start`` that it does not have.
        """
        if start > self.end:
            return self.end >= self.stop
        fresh = slice(self.end - start, max(0, self.stop - start))
        times, values = times[fresh], values[fresh]
        if len(times):
            self._reserve(self.count + len(times))
            self._times[self.count : self.count + len(times)] = times
            self._values[self.count : self.count + len(times)] = values
            self.count += len(times)
        return True

    def _reserve(self, wanted: int) -> None:
        if wanted > len(self._times):
            size = max(wanted, 2 * len(self._times))
            times, values = np.empty(size, dtype=np.int64), np.empty(size)
            times[: self.count] = self._times[: self.count]
            values[: self.count] = self._values[: self.count]
            self._times, self._values = times, values

    def times(self) -> Integers:
        """Return the times of the points held, oldest first: int64, shape (count,)."""
        count = self.count
        return self._times[:count]

    def values(self) -> Floats:
        """Return the untransformed values of the points held: float64, shape (count,)."""
        count = self.count
        return self._values[:count]

    def count_until(self, time: int) -> int:
        """Return how many points of the series have a time of at most ``time``.

        The times of points outside this shard are not known here.  So all points before the shard
        are counted, and no points after it; `sees_past` checks whether that is exact.
        """
        return self.first + int(np.searchsorted(self.times(), time, side="right"))

    def difference(self, begin: int, window: Floats) -> tuple[int, float | None]:
        """Compare a window that begins at position ``begin`` with the points held here.

        Return the index of the first value that differs, and the stored value there; (-1, None)
        without a difference.  Values are compared by their bits, because a decision stores the bits
        of its window.
        """
        skipped = max(0, self.first - begin)
        held = self.values()[begin + skipped - self.first : begin + len(window) - self.first]
        sent = window[skipped : skipped + len(held)]
        differing = np.flatnonzero(held.view(np.int64) != sent.view(np.int64))
        if not differing.size:
            return -1, None
        return skipped + int(differing[0]), float(held[differing[0]])

    def sees_past(self, count: int) -> bool:
        """Return whether ``count``, a result of `count_until`, is exact for the whole series.

        A full shard has the points from position ``first`` to position ``stop - 1``.  The count is
        exact if the point at ``first`` is counted and the point at ``stop - 1`` is not counted.  If
        both are counted, the count may be too small, because later shards may have points up to the
        same time.  If none is counted, the count may be too large, because `count_until` counts all
        points before the shard.
        """
        return self.first < count < self.stop

    def history(self, transform: Transform, window: int) -> History:
        """Return an up-to-date kernel `History`: the transformed points of the shard's windows of
        this length."""
        key = transform, window
        with self._lock:
            history = self._histories.get(key)
            if history is None:
                history = History(start=self.first, dtype="float64")
                self._keep(self._histories, key, history)
            self._histories.move_to_end(key)
            values = self.values()[len(history) : self.last - self.first + window - 1]
            if len(values):
                history.append(outcome.searchable(outcome.history(values, transform)))
        self._used(self._histories, key, HISTORY_POINT_BYTES * len(history))
        return history

    def ledger(self, specification: Specification, stop: Stop | None = None) -> Ledger:
        """Return the outcomes of the windows that the shard owns, as a `Ledger` that is up to date.

        Raise `midstreamer_kernels.StoppedError` once ``stop`` is set; outcomes computed by then are
        kept.
        """
        way = _Way(
            specification.window,
            specification.horizon,
            specification.grid,
            specification.transform,
            specification.scale,
        )
        with self._lock:
            ledger = self._ledgers.get(way)
            if ledger is None:
                ledger = Ledger(self.first, self.last, specification)
                self._keep(self._ledgers, way, ledger)
            self._ledgers.move_to_end(way)
        try:
            while not self._extended(ledger):
                if stop is not None:
                    stop.check()
        finally:
            self._used(self._ledgers, way, LEDGER_WINDOW_BYTES * len(ledger))
        return ledger

    def _extended(self, ledger: Ledger) -> bool:
        with self._lock:
            return ledger.extend(self.values(), self.first)

    def release(self) -> None:
        """Drop all derived data.  Searches under way keep the data that they use."""
        with self._lock:
            keys = [*self._histories, *self._ledgers]
            self._histories.clear()
            self._ledgers.clear()
        for key in keys:
            self._derived.forget((self, key))

    def _keep(self, kept: OrderedDict[_Key, _Made], key: _Key, cache: _Made) -> None:
        kept[key] = cache
        if len(kept) > KEPT_MAX:
            oldest, _ = kept.popitem(last=False)
            self._derived.forget((self, oldest))

    def _used(self, kept: OrderedDict[_Key, _Made], key: _Key, size: int) -> None:
        def drop() -> None:
            with self._lock:
                kept.pop(key, None)

        self._derived.used((self, key), ENTRY_BYTES + size, drop)
