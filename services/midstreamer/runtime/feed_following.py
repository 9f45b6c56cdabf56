"""Follow the change feed of sync, and let requests wait until a feed position is reached.

`Follower.follow` runs in parallel with the link to sync: it is the ``opened`` callback of that
`Session`.  After every reconnection it goes on from the last position.  When sync no longer has the
changes after that position, everything built from the feed is dropped and built again; that is
safe, because a follower keeps the data of the feed only as a cache.  When the feed fails again
before any change came, it is followed again after a growing pause.

A request that waits for a position holds a place of a separate `Admission`, because the position
may be minutes away.  So waiting requests do not use up the places of searches, and one identity
holds at most half of the places for waiting.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from midstreamer.domain.errors import Behind, LinkClosed, Overloaded
from midstreamer.protocol.frames import Changes, Tail
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.feed_lag import FeedLag
from midstreamer.runtime.peer import Peer
from midstreamer.runtime.tasks import pause
from midstreamer.telemetry import logs, metrics, queues

RETRY_AFTER_S = 0.05
"""Seconds after which a client may retry a request whose position was not reached in time."""
AHEAD_MAX = 10_000
"""Maximum distance of a requested position from the last applied position. Normally a process is
only a few changes behind, because sync sends each change immediately after its commit. A position
further ahead belongs to another installation, or this process needs minutes to reach it."""
AHEAD_RETRY_AFTER_S = 1.0
"""Seconds after which a client may retry a request whose position is too far ahead."""
WAITS_MAX = 256
"""Default for ``waits_max``: how many requests may be waiting for a position at the same time."""
UNKNOWN = -1
"""Position of a follower that has not begun.  In a Tail it means: send changes from now on."""

log = logs.get(__name__)


class Reader(Protocol):
    """The data that a process builds from the change feed; `Follower` calls these methods."""

    async def begin(self, peer: Peer) -> int:
        """Load the initial state from sync and return the position to follow from.

        `UNKNOWN` means to follow from the present end of the feed.
        """

    async def begun(self, peer: Peer) -> None:
        """Load data that must be loaded while changes already arrive, so that no change is missed.

        An example is a list of all series.  `Follower` calls this method after `begin`, when the
        first changes have been applied.  It publishes the position of these changes only after
        this call.
        """

    def apply(self, changes: Changes) -> None:
        """Apply committed changes, in order and without awaiting."""

    def forget(self) -> None:
        """Drop all state, because changes were missed that sync no longer has."""


class Follower:
    """Follows the change feed for one process and keeps its position."""

    def __init__(
        self,
        reader: Reader,
        *,
        states: bool = True,
        waits_max: int = WAITS_MAX,
        setting: str = "",
    ) -> None:
        """Apply changes to ``reader``; with ``states``, ask sync for changes of learning states
        too.

        ``waits_max`` limits the requests that wait for a position; ``setting`` is the name of that
        limit for error messages.
        """
        self.position = UNKNOWN
        """All changes up to this position are applied; `UNKNOWN` before the reader has begun."""
        self.following = False
        self._reader = reader
        self._states = states
        self._fruitless = 0
        """How many attempts in a row to follow the feed have brought no change."""
        self._moved = asyncio.Event()
        self.lag = FeedLag(monotonic())
        """How many seconds this process is behind the feed."""
        queues.shown(metrics.FEED_LAG_S, self.lag, lambda lag: lag.lag_s(monotonic()))
        self._waits = Admission(
            waits_max,
            what="waits for a position",
            setting=setting or "waits_max",
            retry_after_s=RETRY_AFTER_S,
        )

    async def follow(self, peer: Peer) -> None:
        """Follow the feed on this link until the link ends; retry when the feed fails."""
        while True:
            self._fruitless += 1
            moving = False
            try:
                await self._follow(peer)
            except asyncio.CancelledError:
                # This task was cancelled. If the link is still open, the session is replacing the
                # link (or the process stops). On the new link, `follow` goes on from the present
                # position. No change is missed, so `following` stays true meanwhile.
                moving = not peer.closed
                raise
            except LinkClosed:
                return
            except Overloaded:
                log.warning("feed.slow", position=self.position)
            except Behind as error:
                log.warning("feed.restarted", position=self.position, detail=error.message)
                self._reader.forget()
                self.position = UNKNOWN
                self.lag.forget(UNKNOWN)
            finally:
                self.following = self.following and moving
                if not self.following:
                    self.lag.left(monotonic())
            if self._fruitless:
                await asyncio.sleep(pause(self._fruitless))

    async def _follow(self, peer: Peer) -> None:
        fresh = self.position == UNKNOWN
        after = await self._reader.begin(peer) if fresh else self.position
        if after != UNKNOWN:
            self._move(after)
        async for changes in peer.follow(Tail(after=after, states=self._states)):
            self._reader.apply(changes)
            if fresh:
                await self._reader.begun(peer)
                fresh = False
            self.following, self._fruitless = True, 0
            self.lag.follows()
            self._move(changes.position)

    def heard(self, position: int) -> None:
        """Record that the feed has this position, even if this process has not reached it."""
        self.lag.heard(position, monotonic())

    def _move(self, position: int) -> None:
        if position <= self.position:
            return
        self.position = position
        self.lag.reached(position)
        metrics.FEED_POSITION.set(position)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def reached(
        self, position: int, deadline_s: float, *, identity: str = "", origin: str = ""
    ) -> None:
        """Return once all changes up to ``position`` are applied.

        Raises Behind when ``deadline_s`` passes first, and at once when the position is more than
        `AHEAD_MAX` ahead; Overloaded when too many requests wait already.
        """
        if self.position >= max(position, 0):
            return
        if self.position != UNKNOWN and position > self.position + AHEAD_MAX:
            raise self._behind(position, AHEAD_RETRY_AFTER_S)
        async with self._waits.place(identity, deadline_s, origin=origin):
            try:
                async with asyncio.timeout_at(deadline_s):
                    while self.position < max(position, 0):
                        await self._moved.wait()
            except TimeoutError as error:
                raise self._behind(position, RETRY_AFTER_S) from error

    def _behind(self, position: int, retry_after_s: float) -> Behind:
        seen = f"position {self.position}" if self.position >= 0 else "no position yet"
        return Behind(
            f"position {position} was asked for, but {seen} has been reached: sync is slow or not"
            " reachable, or the position is of another installation",
            retry_after_s=retry_after_s,
        )
