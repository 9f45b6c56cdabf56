"""Tells followers what was committed: from memory when they are close, else from the store.

Positions are contiguous.  The newest changes are kept in memory; `publish` is called after each
commit with the position before it.  Two commits on two connections may be told out of order, so
what comes too early waits; what never comes (a commit whose answer was lost, another process that
wrote) is noticed by looking at the store now and then, and read from there.

A follower that does not read is waited for, never buffered for: `Peer.drained` holds its loop
back, and when it comes again it continues from the position it has.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from midstreamer.domain.errors import Overloaded
from midstreamer.protocol.capabilities import told
from midstreamer.protocol.frames import (
    CHANGES_MAX,
    Change,
    Changes,
    Joined,
    Learned,
)
from midstreamer.protocol.sizes import change_bytes
from midstreamer.runtime.peer import Peer
from midstreamer.store.ports import FeedPage, Store, alone
from midstreamer.telemetry import metrics

FRAME_BYTES = 1024 * 1024
"""A Changes frame is closed when it has reached this; one change may be larger than it."""
READ_CHANGES = 64
"""Changes read from the store at once: each may hold 100,000 ticks."""
EARLY_MAX = 1024
MEMORY_BYTES = 64 * 1024 * 1024
"""Of the newest changes in memory, about: each may hold a learning state."""


class Feed:
    """The change feed, as this process knows it."""

    def __init__(self, store: Store, *, memory: int) -> None:
        self._store = store
        self._newest: deque[Change] = deque()
        self._memory = memory
        self._bytes = 0
        """Of the newest changes."""
        self._early: dict[int, Sequence[Change]] = {}
        self._moved = asyncio.Event()
        self._following: weakref.WeakKeyDictionary[Peer, asyncio.Task[Any] | None] = (
            weakref.WeakKeyDictionary()
        )
        """The task that tells each connection."""
        self.position = 0
        """The last position known to be committed."""

    def publish(self, before: int, changes: Sequence[Change]) -> None:
        """Tell what was committed right after position ``before``."""
        if changes and before >= self.position:
            self._early[before] = changes
        while self.position in self._early:
            ready = self._early.pop(self.position)
            self._remember(ready)
            self._reach(self.position + len(ready))
        if len(self._early) > EARLY_MAX:
            self._early.clear()

    def _remember(self, changes: Sequence[Change]) -> None:
        self._newest.extend(changes)
        self._bytes += sum(map(change_bytes, changes))
        while len(self._newest) > self._memory or self._bytes > MEMORY_BYTES:
            self._bytes -= change_bytes(self._newest.popleft())

    def noticed(self, position: int) -> None:
        """The store is at ``position``: what we do not have in memory is to be read there."""
        if position != self.position:
            self._newest.clear()
            self._bytes = 0
            self._early = {at: early for at, early in self._early.items() if at >= position}
            self._reach(position)
            self.publish(position, ())

    def _reach(self, position: int) -> None:
        self.position = position
        metrics.FEED_POSITION.set(position)
        self._moved.set()
        self._moved = asyncio.Event()

    async def follow(self, peer: Peer, request: int, after: int, *, states: bool = True) -> None:
        """Push everything after a position for as long as the peer lives; Behind.

        Or until it asks anew: every commit costs some work for each follower, and a reader that
        was too slow follows again on the same connection.
        """
        before = self._following.get(peer)
        if before is not None:
            before.cancel()
        self._following[peer] = asyncio.current_task()
        greeted = after < 0
        if greeted:
            after = await self._begin(peer, request)
        async for page in self._pages(after, greeted=greeted, states=states):
            for frame in frames_of(
                for_peer(page, peer.capabilities, states=states), request, after
            ):
                await _push(peer, frame)
            after = page.position

    async def _begin(self, peer: Peer, request: int) -> int:
        present = await self._store.present()
        changes = (Joined(present.members),)
        await _push(peer, Changes(request=request, position=present.position, changes=changes))
        return present.position

    async def _pages(self, after: int, *, greeted: bool, states: bool) -> AsyncIterator[FeedPage]:
        """Page after page; to who heard nothing yet the first at once, though it be empty.

        Only what it hears tells a follower that it is heard, and a fleet at rest may say nothing
        for hours.
        """
        while True:
            moved = self._moved
            page = self._remembered(after)
            if page is None:
                page = await self._read(after, states=states)
            if page.position > after or not greeted:
                greeted = True
                yield page
                after = page.position
            else:
                await moved.wait()

    def _remembered(self, after: int) -> FeedPage | None:
        """The next changes, when memory reaches back far enough."""
        first = self.position - len(self._newest)
        if not first <= after <= self.position:
            return None
        upto = min(self.position, after + CHANGES_MAX)
        part = [self._newest[at - first] for at in range(after, upto)]
        return FeedPage(alone(part), upto)

    async def _read(self, after: int, *, states: bool) -> FeedPage:
        with metrics.SYNC_LATENCY_S.labels("feed").time():
            page = await self._store.feed(after, READ_CHANGES, states=states)
        if page.position > self.position:
            self.noticed(page.position)
        return page


async def _push(peer: Peer, frame: Changes) -> None:
    while True:
        await peer.drained()
        try:
            peer.tell(frame)
        except Overloaded:
            continue  # filled up by others since it was drained
        return


def frames_of(page: FeedPage, request: int, after: int) -> Iterator[Changes]:
    """A page in frames of a bounded size; only the last one says that its position is reached."""
    part: list[Change] = []
    held = 0
    for change in page.changes:
        if part and (held + change_bytes(change) > FRAME_BYTES or len(part) == CHANGES_MAX):
            yield Changes(request=request, position=after, changes=tuple(part))
            part, held = [], 0
        part.append(change)
        held += change_bytes(change)
    yield Changes(request=request, position=page.position, changes=tuple(part))


def for_peer(page: FeedPage, capabilities: Iterable[str], *, states: bool) -> FeedPage:
    """What one follower is told of a page: what it knows, with states or without."""
    changes = tuple(
        msgspec.structs.replace(change, state=b"")
        if isinstance(change, Learned) and not states
        else change
        for change in told(page.changes, capabilities)
    )
    return FeedPage(changes, page.position)
