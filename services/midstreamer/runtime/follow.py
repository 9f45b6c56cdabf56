"""Following the change feed: from where, how far, and waiting until it has come far enough.

A `Follower` is what a process does beside its link to sync: it is the ``opened`` of that
`Session`.  It goes on from the last position after every reconnection.  When sync no longer has
what lies between, everything is forgotten and begun again; all that is built from the feed is a
cache.  A feed that fails again before it has told anything is asked again after a growing pause.

A request that waits for a position holds a place of its own kind (`runtime.admission`), because
the position may be minutes away.  So requests that wait leave the places of searches free, and one
identity holds at most half of the places to wait in.
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
AHEAD_MAX = 10_000
"""Positions beyond the last one heard of that are waited for. Sync tells each as it commits, so
what is further off is of another installation, or minutes of catching up away."""
AHEAD_RETRY_AFTER_S = 1.0
WAITS_MAX = 256
UNKNOWN = -1

log = logs.get(__name__)


class Reader(Protocol):
    """What is built from the feed."""

    async def begin(self, peer: Peer) -> int:
        """Lay the ground; the position to follow from, `UNKNOWN` for "from now"."""

    async def begun(self, peer: Peer) -> None:
        """The first changes have been applied; the position is made known after this."""

    def apply(self, changes: Changes) -> None:
        """Take committed changes in, in order, all of them before the next await."""

    def forget(self) -> None:
        """Changes were missed for good: drop everything."""


class Follower:
    """One process's place in the feed."""

    def __init__(
        self,
        reader: Reader,
        *,
        states: bool = True,
        waits_max: int = WAITS_MAX,
        setting: str = "",
    ) -> None:
        """``states``: whether what is learned comes with the state."""
        self.position = UNKNOWN
        """Everything up to here has been applied; `UNKNOWN` until the ground is laid."""
        self.following = False
        self._reader = reader
        self._states = states
        self._fruitless = 0
        """Times the feed failed in a row without having told anything."""
        self._moved = asyncio.Event()
        self.lag = FeedLag(monotonic())
        """How far behind the feed this is."""
        queues.shown(metrics.FEED_LAG_S, self.lag, lambda lag: lag.lag_s(monotonic()))
        self._waits = Admission(
            waits_max,
            what="waits for a position",
            setting=setting or "waits_max",
            retry_after_s=RETRY_AFTER_S,
        )

    async def follow(self, peer: Peer) -> None:
        """Follow on this connection until it ends."""
        while True:
            self._fruitless += 1
            moving = False
            try:
                await self._follow(peer)
            except asyncio.CancelledError:
                # While the link lives, it is followed on from here on another one.
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
        """The feed is known to have this position."""
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
        """Return once everything up to a position was applied; Behind when that takes too long.

        Behind at once when the position is so far off that waiting is not worth a place;
        Overloaded when there is no place to wait in.
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
            f"position {position} was asked for, {seen} has been reached: sync is slow or"
            " away, or the position is of another installation",
            retry_after_s=retry_after_s,
        )
