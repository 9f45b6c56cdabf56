"""Tells followers what was committed: from memory when they are close, else from the store.

`Recent` keeps the newest changes in order.  `publish` is called after each commit of this process
with the position before it; `heard` with each position that another sync is heard to have
committed.  What others committed is read from the store once, by `run`, and goes into the same
memory.  So the cost of a foreign commit is the reading of what is new in it.

A follower that does not read is waited for, never buffered for: `Peer.drained` holds its loop
back, and when it comes again it continues from the position it has.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any

import msgspec

from midstreamer.domain.errors import Behind, Overloaded, StoreError
from midstreamer.protocol.capabilities import told
from midstreamer.protocol.frames import CHANGES_MAX, Change, Changes, Joined, Learned
from midstreamer.protocol.sizes import change_bytes
from midstreamer.runtime.feed_lag import FeedLag
from midstreamer.runtime.peer import Peer
from midstreamer.store.ports import FeedPage, Store
from midstreamer.sync import members
from midstreamer.sync.recent import Recent
from midstreamer.telemetry import metrics, queues

FRAME_BYTES = 1024 * 1024
"""A Changes frame is closed when it has reached this; one change may be larger than it."""
READ_CHANGES = 64
"""Changes read from the store at once: each may hold 100,000 ticks."""
AGAIN_S = 0.1
"""Pause before reading again from a store that failed."""


class Feed:
    """The change feed, as this process knows it."""

    def __init__(
        self,
        store: Store,
        *,
        memory: int,
        by_others: Callable[[Sequence[Change]], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._by_others = by_others
        """Is told of changes that another sync has committed."""
        self._memory = memory
        self._recent = Recent(memory)
        self._told = 0
        """Position that followers were last woken up for."""
        self._begun = False
        self._lag = FeedLag(monotonic())
        queues.shown(metrics.FEED_LAG_S, self._lag, lambda lag: lag.lag_s(monotonic()))
        self._moved = asyncio.Event()
        self._missing = asyncio.Event()
        self._following: weakref.WeakKeyDictionary[Peer, asyncio.Task[Any] | None] = (
            weakref.WeakKeyDictionary()
        )
        """The task that tells each connection."""

    @property
    def position(self) -> int:
        """The last position known to be committed, and told in order."""
        return self._recent.position

    def publish(self, before: int, changes: Sequence[Change]) -> None:
        """Tell what was committed right after position ``before``."""
        self._recent.publish(before, changes)
        self._tell()

    def heard(self, position: int) -> None:
        """Somebody committed this position; what is missing up to it is read soon."""
        self._recent.heard(position)
        self._lag.heard(position, monotonic())
        self._tell()

    async def begin(self) -> None:
        """Go on from where the store is now.

        That is earlier than before when the database was replaced by an older one: what was told
        beyond it is not committed any more, and followers there must load again.
        """
        before = self.position
        position = await self._store.position()
        if position < before or not self._begun:
            self._recent.skip(position)
            self._begun = True
            self._lag.follows()
        self.heard(position)

    async def run(self) -> None:
        """Read what others committed, as soon as it is heard of."""
        while True:
            await self._missing.wait()
            try:
                await self._fill()
            except StoreError:
                await asyncio.sleep(AGAIN_S)

    async def _fill(self) -> None:
        while count := self._recent.missing():
            before = self.position
            try:
                if count > self._memory:
                    raise Behind(f"{count:,} changes are more than memory keeps")
                changes = await self._store.changes(before, min(count, READ_CHANGES))
            except Behind:
                self._recent.skip(await self._store.position())
                continue
            if changes:
                self._by_others(changes)
                self.publish(before, changes)
            elif before == self.position:
                self._recent.nothing_more()
                self._lag.forget(self.position)
        self._missing.clear()
        self._tell()

    def _tell(self) -> None:
        """Wake up followers when the position moved, and `run` when something is missing."""
        if self._recent.missing():
            self._missing.set()
        if self.position != self._told:
            self._told = self.position
            self._lag.reached(self.position)
            metrics.FEED_POSITION.set(self.position)
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def follow(self, peer: Peer, request: int, after: int, *, states: bool = True) -> None:
        """Push everything after a position for as long as the peer lives; Behind.

        Or until it asks anew: every commit costs some work for each follower, and a reader that
        was too slow follows again on the same connection.
        """
        before = self._following.get(peer)
        if before is not None:
            before.cancel()
        self._following[peer] = task = asyncio.current_task()
        try:
            await self._follow(peer, request, after, states=states)
        finally:
            # A task that has ended holds what it had in hand, the peer too.
            if self._following.get(peer) is task:
                del self._following[peer]

    async def _follow(self, peer: Peer, request: int, after: int, *, states: bool) -> None:
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
        seen = Joined(members.visible(present.members, peer.capabilities))
        await _push(peer, Changes(request=request, position=present.position, changes=(seen,)))
        return present.position

    async def _pages(self, after: int, *, greeted: bool, states: bool) -> AsyncIterator[FeedPage]:
        """Page after page; to who heard nothing yet the first at once, though it be empty.

        Only what it hears tells a follower that it is heard, and a fleet at rest may say nothing
        for hours.
        """
        while True:
            moved = self._moved
            page = await self._page(after, states=states)
            if page.position > after or not greeted:
                greeted = True
                yield page
                after = page.position
            else:
                await moved.wait()

    async def _page(self, after: int, *, states: bool) -> FeedPage:
        """The next changes, from memory when it reaches back far enough."""
        page = self._recent.page(after)
        if page is not None:
            return page
        with metrics.SYNC_LATENCY_S.labels("feed").time():
            page = await self._store.feed(after, READ_CHANGES, states=states)
        if page.position > self.position:
            self.heard(page.position)
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
    """The page as one peer gets it: what it knows, with or without states, members it may see."""

    def seen(change: Change) -> Change:
        if isinstance(change, Joined):
            return Joined(members.visible(change.members, capabilities))
        if isinstance(change, Learned) and not states:
            return msgspec.structs.replace(change, state=b"")
        return change

    return FeedPage(tuple(map(seen, told(page.changes, capabilities))), page.position)
