"""The points of one shard, and what is derived from them: histories and ledgers.

A shard keeps its own points and enough behind its end that every window it owns can be compared,
settled and embargoed.  Points come by absolute position, from loads and from the change feed, in
any overlap: what is there already is skipped, what leaves a gap is refused.

Two things are built when first asked for and extended as points come: a kernel `History` for
each transform and window length, and a `Ledger` for each way of counting outcomes.  A ledger
holds the scaled outcome of every grid window that the shard owns, with running counts beside it:
rises and known outcomes up to any time are one look-up.

Appending happens on the loop, searching in threads.  Buffers are replaced and never rewritten
below ``count``, so a reader that takes the count first sees whole points; what is derived is
extended under the shard's lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple, TypeVar

import numpy as np

from midstreamer.agent.derived import Derived
from midstreamer.domain import outcome
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import HORIZON_MAX, Scale, Specification, Transform
from midstreamer_kernels import History

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


class Settled(NamedTuple):
    """What a ledger says of the windows up to some point."""

    outcomes: Floats
    """Of each window, in order; NaN for those that are no analogs: flat, or without a logarithm."""
    ups: int
    known: int
    barred: int
    """How many are no analogs."""


class _Way(NamedTuple):
    """All that an outcome depends on beside the points."""

    window: int
    horizon: int
    grid: int
    transform: Transform
    scale: Scale


class Ledger:
    """Outcomes of a shard's grid windows, with running counts."""

    def __init__(self, first: int, last: int, specification: Specification) -> None:
        self.first = first + -first % specification.grid
        self._last = last
        self._specification = specification
        self._outcomes = np.empty(0)
        self._sums = np.zeros((3, 1), dtype=np.int64)

    def extend(self, values: Floats, start: int) -> None:
        """Settle the windows whose outcome is known by now; ``values`` begin at ``start``."""
        specification = self._specification
        begin = self.first + len(self._outcomes) * specification.grid
        stop = min(start + len(values) - specification.horizon, self._last + specification.window)
        firsts = outcome.grid_firsts(begin, stop, specification)
        firsts = firsts[firsts < self._last]
        if not firsts.size:
            return
        offset = int(firsts[0])
        points = outcome.history(values[offset - start :], specification.transform)
        made = outcome.outcomes(points, firsts - offset, specification)
        marks = np.stack([made > 0.0, np.abs(made) > 0.0, np.isnan(made)]).astype(np.int64)
        sums = self._sums[:, -1:] + np.cumsum(marks, axis=1)
        self._sums = np.concatenate([self._sums, sums], axis=1)
        self._outcomes = np.concatenate([self._outcomes, made])

    def __len__(self) -> int:
        return len(self._outcomes)

    def settled(self, until: int) -> Settled:
        """Of the windows whose last point lies before ``until``."""
        made = self._outcomes
        reached = until - self._specification.window - self.first
        place = min(max(0, reached // self._specification.grid + 1), len(made))
        ups, known, barred = self._sums[:, place]
        return Settled(made[:place], int(ups), int(known), int(barred))


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

    def ledger(self, specification: Specification) -> Ledger:
        """The outcomes of the shard's own windows, up to date."""
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
            ledger.extend(self.values(), self.first)
        self._used(self._ledgers, way, LEDGER_WINDOW_BYTES * len(ledger))
        return ledger

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
