"""A bound on the bytes of what an agent derives from its points, over all of its shards.

Each window length, grid, horizon and transform that somebody asks for makes a history and a ledger
in every shard.  They are caches: one that was dropped is made again when it is next asked for.
When all together take more than the bound, the ones longest unused are dropped first, whichever
shard they belong to.  Without a bound, 16 specifications took 36 times the memory of the points.

Called from the threads that search.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Derived:
    """What is kept, the longest unused first."""

    def __init__(self, bytes_max: float = float("inf")) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[Hashable, tuple[int, Callable[[], None]]] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0
        """Bytes of all that is kept."""

    def used(self, key: Hashable, size: int, drop: Callable[[], None]) -> None:
        """Something of ``size`` bytes was made or used; ``drop`` is called when it must go.

        Call it without a lock that a ``drop`` takes.
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
        """Something is no longer kept; safe to call twice."""
        with self._lock:
            size, _ = self._kept.pop(key, (0, None))
            self.size -= size
