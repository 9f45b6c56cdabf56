"""Keeps the newest changes of the change feed in memory, in order and without a gap; pure.

Positions of the feed are contiguous.  `Recent.publish` adds the changes that this process
committed.  `Recent.heard` notes a position that any sync has committed.

With several syncs, changes of other syncs lie between those of this process.  This process must
read them from the store before it can add its own later changes; `Recent.missing` returns how many
there are.  Each of them is read once, because all followers of this process share the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from midstreamer.protocol.encoded_sizes import change_bytes
from midstreamer.protocol.frames import CHANGES_MAX, Change
from midstreamer.store.store_interface import FeedPage, alone

EARLY_MAX = 1024
"""Maximum commits of this process that wait in memory until the changes before them have been read
from the store. If more wait, all of them are removed from memory. They are read from the store
later, like the commits of other syncs."""
MEMORY_BYTES = 64 * 1024 * 1024
"""Approximate limit on the bytes of the changes in memory. The number of changes is limited too,
but a single change may hold a whole learning state."""


class Recent:
    """The last changes of the feed, held in memory."""

    def __init__(self, memory: int) -> None:
        """Keep at most ``memory`` changes."""
        self.position = 0
        """Position of the last change in memory; every change up to it is committed."""
        self._newest: deque[Change] = deque()
        self._memory = memory
        self._bytes = 0
        """Approximate size in bytes of the changes in memory."""
        self._early: dict[int, Sequence[Change]] = {}
        """Commits of this process that come after missing changes.  The key is the position before
        each commit."""
        self._heard = 0
        """Highest position that some sync is known to have committed."""

    def publish(self, before: int, changes: Sequence[Change]) -> None:
        """Add the changes that were committed right after position ``before``."""
        after = before + len(changes)
        self._heard = max(self._heard, after)
        if after > self.position and before not in self._early:
            self._early[before] = changes
        while (ready := self._next()) is not None:
            self._remember(ready)
        if len(self._early) > EARLY_MAX:
            self._early.clear()

    def _next(self) -> Sequence[Change] | None:
        """Return the changes right after the present position if they are known, else None."""
        while self._early and (before := min(self._early)) <= self.position:
            if changes := self._early.pop(before)[self.position - before :]:
                return changes
        return None

    def _remember(self, changes: Sequence[Change]) -> None:
        self._newest.extend(changes)
        self.position += len(changes)
        self._bytes += sum(map(change_bytes, changes))
        while len(self._newest) > self._memory or self._bytes > MEMORY_BYTES:
            self._bytes -= change_bytes(self._newest.popleft())

    def heard(self, position: int) -> None:
        """Note that a sync has committed this position."""
        self._heard = max(self._heard, position)

    def missing(self) -> int:
        """Return how many changes after the present position must be read from the store."""
        upto = min(self._early, default=self._heard)
        return max(0, upto - self.position)

    def nothing_more(self) -> None:
        """Stop waiting for changes after the present position, because the store has none.

        Such changes were expected because `heard` got a position that is higher than the last
        position in the store.
        """
        self._heard = self.position
        if self._early:
            self.skip(min(self._early))

    def skip(self, position: int) -> None:
        """Empty the memory and continue at another position.

        Earlier changes must then be read from the store.
        """
        self._newest.clear()
        self._bytes = 0
        self.position = position
        self._early = {at: early for at, early in self._early.items() if at >= position}
        self._heard = max(position, *(at + len(early) for at, early in self._early.items()), 0)
        self.publish(position, ())

    def page(self, after: int) -> FeedPage | None:
        """Return the next changes after a position; None if the memory does not contain them."""
        first = self.position - len(self._newest)
        if not first <= after <= self.position:
            return None
        upto = min(self.position, after + CHANGES_MAX)
        part = [self._newest[at - first] for at in range(after, upto)]
        return FeedPage(alone(part), upto)
