"""The change feed of one sync process: pushes committed changes to the peers that follow it.

`Recent` keeps the newest changes in memory, in order.  A follower that is close to the end is
served from this memory, any other follower from the store.  After each commit of this process,
`Feed.publish` adds its changes.  When another sync commits, `Feed.heard` learns the new position,
and `Feed.run` reads the missing changes from the store once, for all followers.

Nothing is buffered for a slow follower: `Peer.drained` waits until the follower has read what was
sent.  Then the follower gets the changes after the last position that was sent to it.
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
from midstreamer.protocol.encoded_sizes import change_bytes
from midstreamer.protocol.frames import CHANGES_MAX, Change, Changes, Joined, Learned
from midstreamer.runtime.feed_lag import FeedLag
from midstreamer.runtime.peer import Peer
from midstreamer.store.store_interface import FeedPage, Store
from midstreamer.sync import visible_members
from midstreamer.sync.recent_changes import Recent
from midstreamer.telemetry import metrics, queues

FRAME_BYTES = 1024 * 1024
"""Maximum bytes of changes in one Changes frame. A single change that is larger gets its own
frame."""
READ_CHANGES = 64
"""Maximum changes in one read from the store. The number is small because one change may hold
100,000 ticks."""
AGAIN_S = 0.1
"""Seconds to wait after a failed read from the store before the next attempt."""


class Feed:
    """The change feed as far as this process knows it, and the peers that follow it here."""

    def __init__(
        self,
        store: Store,
        *,
        memory: int,
        by_others: Callable[[Sequence[Change]], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._by_others = by_others
        """Callback; called with each run of changes that another sync committed."""
        self._memory = memory
        self._recent = Recent(memory)
        self._told = 0
        """Position of this feed when the followers were last woken up."""
        self._begun = False
        self._lag = FeedLag(monotonic())
        queues.shown(metrics.FEED_LAG_S, self._lag, lambda lag: lag.lag_s(monotonic()))
        self._moved = asyncio.Event()
        self._missing = asyncio.Event()
        self._following: weakref.WeakKeyDictionary[Peer, asyncio.Task[Any] | None] = (
            weakref.WeakKeyDictionary()
        )
        """For each following peer, the task that pushes changes to it."""

    @property
    def position(self) -> int:
        """Last position up to which this process knows every committed change."""
        return self._recent.position

    def publish(self, before: int, changes: Sequence[Change]) -> None:
        """Publish to followers the changes that were committed right after position ``before``."""
        self._recent.publish(before, changes)
        self._tell()

    def heard(self, position: int) -> None:
        """Record that a commit reached ``position``; `run` then reads the changes up to there."""
        self._recent.heard(position)
        self._lag.heard(position, monotonic())
        self._tell()

    async def begin(self) -> None:
        """Continue from the present position of the store.

        The store's position is lower than this feed's when the database was replaced by an older
        copy.  Changes after the lower position no longer exist, so followers that have seen them
        must load everything again.
        """
        before = self.position
        position = await self._store.position()
        if position < before or not self._begun:
            self._recent.skip(position)
            self._begun = True
            self._lag.follows()
        self.heard(position)

    async def run(self) -> None:
        """Read the changes of other syncs from the store, as soon as `heard` reports them."""
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
                    raise Behind(
                        f"{count:,} changes are missing, memory keeps {self._memory:,}: the feed"
                        " skips them"
                    )
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
        """Wake up the followers if the position has moved; wake up `run` if changes are missing."""
        if self._recent.missing():
            self._missing.set()
        if self.position != self._told:
            self._told = self.position
            self._lag.reached(self.position)
            metrics.FEED_POSITION.set(self.position)
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def follow(self, peer: Peer, request: int, after: int, *, states: bool = True) -> None:
        """Push every change after position ``after`` to a peer until its connection ends.

        A further call for the same peer ends the earlier call.  It comes from a peer that was too
        slow and asks again on the same connection; the earlier call would only cost work at each
        commit.  With a negative ``after`` the peer first gets the members and the present position.
        Raise Behind when the store no longer keeps the changes after ``after``.
        """
        before = self._following.get(peer)
        if before is not None:
            before.cancel()
        self._following[peer] = task = asyncio.current_task()
        try:
            await self._follow(peer, request, after, states=states)
        finally:
            # Forget the finished task, because it keeps the peer in memory.
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
        seen = Joined(visible_members.visible(present.members, peer.capabilities))
        await _push(peer, Changes(request=request, position=present.position, changes=(seen,)))
        return present.position

    async def _pages(self, after: int, *, greeted: bool, states: bool) -> AsyncIterator[FeedPage]:
        """Yield the pages of changes after a position, and wait when there are no more changes.

        If nothing was sent to the follower yet (``greeted`` is false), the first page comes
        immediately, even if it is empty.  Otherwise a follower of an idle fleet could wait for
        hours before it knows that its request was accepted.
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
        """Return the changes after a position: from memory if possible, else from the store."""
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
            continue  # meanwhile other frames filled the send buffer: wait until it drains again
        return


def frames_of(page: FeedPage, request: int, after: int) -> Iterator[Changes]:
    """Split a page into frames of bounded size.

    Only the last frame carries the position of the page.  The earlier frames carry ``after``, the
    old position, so that a follower has reached the new position only with the whole page.
    """
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
    """Return the page as one peer gets it.

    The page loses the changes that the peer's version does not know, the bodies of learning states
    unless ``states`` is true, and the members that the peer must not see.
    """

    def seen(change: Change) -> Change:
        if isinstance(change, Joined):
            return Joined(visible_members.visible(change.members, capabilities))
        if isinstance(change, Learned) and not states:
            return msgspec.structs.replace(change, state=b"")
        return change

    return FeedPage(tuple(map(seen, told(page.changes, capabilities))), page.position)
