"""The points of one shard, and what is derived from them: histories and ledgers.

A shard keeps its own points and enough behind its end that every window it owns can be compared,
settled and embargoed.  Points come by absolute position, from loads and from the change feed, in
any overlap: what is there already is skipped, what leaves a gap is refused.

Two things are built when first asked for and extended as points come: a kernel `History` for
each transform and window length, and a `Ledger` for each way of counting outcomes.

Appending happens on the loop, searching in threads.  Buffers are replaced and never rewritten
below ``count``, so a reader that takes the count first sees whole points; what is derived is
extended under the shard's lock.  A ledger of long windows takes long: the lock is given back after
each part of it, where the search that extends it may be stopped.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple, TypeVar

import numpy as np

from midstreamer.agent.derived import Derived
from midstreamer.analogs.ledger import Ledger
from midstreamer.domain import outcome
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import HORIZON_MAX, Scale, Specification, Transform
from midstreamer_kernels import History, Stop

KEPT_MAX = 16
"""Histories, and ledgers, kept for one shard; the one longest unused is dropped."""
HISTORY_POINT_BYTES = 24
"""Of one point of a history, roughly: its value and the statistics of its window."""
LEDGER_WINDOW_BYTES = 32
"""Of one window in a ledger: its outcome and three running counts."""
ENTRY_BYTES = 1024
"""Of a history or a ledger without what is in it, roughly."""
_CAPACITY_MIN = 16

_Key = TypeVar("_Key")
_Made = TypeVar("_Made")


def reach(shard: Shard, points: int) -> int:
    """One past the last point a shard keeps.

    One longest horizon more than `Shard.stop`: an analog counts only when twice the horizon has
    passed behind it, and the shard's last window must be able to tell.
    """
    return shard.stop(points) + HORIZON_MAX


class _Way(NamedTuple):
    """All that an outcome depends on beside the points."""

    window: int
    horizon: int
    grid: int
    transform: Transform
    scale: Scale


class Held:
    """One shard as an agent holds it."""

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
        """One past the position of the last point held."""
        return self.first + self.count

    def append(self, start: int, times: Integers, values: Floats) -> bool:
        """Take points over that begin at ``start``; False when some before them are missing."""
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
        """Times of the points held, oldest first."""
        count = self.count
        return self._times[:count]

    def values(self) -> Floats:
        """Values of the points held, as they came."""
        count = self.count
        return self._values[:count]

    def count_until(self, time: int) -> int:
        """Points of the series with a time not later, as far as this shard can see."""
        return self.first + int(np.searchsorted(self.times(), time, side="right"))

    def difference(self, begin: int, window: Floats) -> tuple[int, float | None]:
        """The first value of a window from ``begin`` on that is held and differs; -1: none.

        Compared by their bits, since bits are what is kept of a decision.
        """
        skipped = max(0, self.first - begin)
        held = self.values()[begin + skipped - self.first : begin + len(window) - self.first]
        sent = window[skipped : skipped + len(held)]
        apart = np.flatnonzero(held.view(np.int64) != sent.view(np.int64))
        if not apart.size:
            return -1, None
        return skipped + int(apart[0]), float(held[apart[0]])

    def sees_past(self, count: int) -> bool:
        """Whether the shard knows that the series has exactly so many points up to a time.

        It does not when they reach to its very end, since more may follow, or not yet to its
        beginning.
        """
        return self.first < count < self.stop

    def history(self, transform: Transform, window: int) -> History:
        """The points that the shard's own windows of a length reach, as the kernels want them."""
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
        """The outcomes of the shard's own windows, up to date.

        `kernels.StoppedError` once ``stop`` is set; what was settled by then is kept.
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
        """Drop all that was derived; searches under way keep what they have."""
        with self._lock:
            keys = [*self._histories, *self._ledgers]
            self._histories.clear()
            self._ledgers.clear()
        for key in keys:
            self._derived.forget((self, key))

    def _keep(self, kept: OrderedDict[_Key, _Made], key: _Key, made: _Made) -> None:
        kept[key] = made
        if len(kept) > KEPT_MAX:
            oldest, _ = kept.popitem(last=False)
            self._derived.forget((self, oldest))

    def _used(self, kept: OrderedDict[_Key, _Made], key: _Key, size: int) -> None:
        def drop() -> None:
            with self._lock:
                kept.pop(key, None)

        self._derived.used((self, key), ENTRY_BYTES + size, drop)
