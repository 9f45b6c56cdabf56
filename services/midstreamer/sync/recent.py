"""The newest changes of the feed in memory, in order and without a gap; pure.

Positions are contiguous.  `publish` takes what this process committed, `heard` a position that
somebody committed.  With several syncs, commits of others lie between our own: `missing` says
which positions have to be read from the store before what came early can follow.  So each foreign
commit is read once, whatever the number of followers, and nothing else is dropped for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from midstreamer.protocol.frames import CHANGES_MAX, Change
from midstreamer.protocol.sizes import change_bytes
from midstreamer.store.ports import FeedPage, alone

EARLY_MAX = 1024
"""Commits of our own that may wait for what is missing before them. Beyond, they are dropped and
read from the store like those of others."""
MEMORY_BYTES = 64 * 1024 * 1024
"""Of the newest changes in memory, about: each may hold a learning state."""


class Recent:
    """The end of the feed."""

    def __init__(self, memory: int) -> None:
        self.position = 0
        """Everything up to here is committed and told in order."""
        self._newest: deque[Change] = deque()
        self._memory = memory
        self._bytes = 0
        """Of the newest changes."""
        self._early: dict[int, Sequence[Change]] = {}
        """Our own commits beyond a gap, by the position before each."""
        self._heard = 0

    def publish(self, before: int, changes: Sequence[Change]) -> None:
        """Take in what was committed right after position ``before``."""
        after = before + len(changes)
        self._heard = max(self._heard, after)
        if after > self.position and before not in self._early:
            self._early[before] = changes
        while (ready := self._next()) is not None:
            self._remember(ready)
        if len(self._early) > EARLY_MAX:
            self._early.clear()

    def _next(self) -> Sequence[Change] | None:
        """What follows the present position, when it is there."""
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
        """Somebody has committed this position."""
        self._heard = max(self._heard, position)

    def missing(self) -> int:
        """How many changes after the present position have to be read; 0 when none."""
        upto = min(self._early, default=self._heard)
        return max(0, upto - self.position)

    def nothing_more(self) -> None:
        """The store has nothing after the present position: what was heard was wrong."""
        self._heard = self.position
        if self._early:
            self.skip(min(self._early))

    def skip(self, position: int) -> None:
        """Go on at another position; what lies before it is left to the store."""
        self._newest.clear()
        self._bytes = 0
        self.position = position
        self._early = {at: early for at, early in self._early.items() if at >= position}
        self._heard = max(position, *(at + len(early) for at, early in self._early.items()), 0)
        self.publish(position, ())

    def page(self, after: int) -> FeedPage | None:
        """The next changes after a position; None when memory does not reach back that far."""
        first = self.position - len(self._newest)
        if not first <= after <= self.position:
            return None
        upto = min(self.position, after + CHANGES_MAX)
        part = [self._newest[at - first] for at in range(after, upto)]
        return FeedPage(alone(part), upto)
