"""Bound the memory of the data that an agent derives from its points, over all its shards.

Requests with new window lengths, grids, horizons or transforms add histories (transformed points)
and ledgers (outcomes) to every shard.  Both are caches: after an eviction they are derived again
when needed.  When all caches together exceed the bound, the least recently used cache is evicted
first, whichever shard it belongs to.  Without a bound, the caches of 16 specifications took 36
times the memory of the points.

The threads that search call this module, so it is thread-safe.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Derived:
    """The sizes of all derived caches of an agent, the least recently used cache first."""

    def __init__(self, bytes_max: float = float("inf")) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[Hashable, tuple[int, Callable[[], None]]] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0
        """Bytes of all caches together."""

    def used(self, key: Hashable, size: int, drop: Callable[[], None]) -> None:
        """Record that the cache ``key`` was created or used and now has ``size`` bytes.

        ``drop`` is called when the cache is evicted.  This method evicts caches, so it may call the
        ``drop`` of any cache: the caller must not hold a lock that a ``drop`` takes.
        """
        leaving = []
        with self._lock:
            before, _ = self._kept.pop(key, (0, drop))
            self._kept[key] = size, drop
            self.size += size - before
            while self.size > self._bytes_max and len(self._kept) > 1:
                _, (size, longest_unused) = self._kept.popitem(last=False)
                self.size -= size
                leaving.append(longest_unused)
        for each in leaving:
            each()

    def forget(self, key: Hashable) -> None:
        """Record that the cache ``key`` no longer exists; safe to call twice."""
        with self._lock:
            size, _ = self._kept.pop(key, (0, None))
            self.size -= size
