"""Sees every peer off when sync drains: nothing that is under way is lost, nothing new is taken.

A peer that knows Drain is told; it sends its next requests to another sync and says Drain in its
turn.  When nothing is under way on its link any more, it may stay until it has followed the feed
on another link, and closes this one.  With no other sync there is nothing to wait for: the link is
closed, and the peer dials until the successor of this process listens.  A peer that cannot reach
the other sync waits for the same, so its link is closed after `MOVE_S`.

A peer of a version before is answered for `GRACE_S`, because what it sent meanwhile is on its way.
Then its new requests are refused with a retry-after, and its link is closed when nothing is under
way on it.  It repeats what was refused, and natural keys make sure that nothing is stored twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from midstreamer.protocol.capabilities import Capability
from midstreamer.runtime.listener import quiet
from midstreamer.runtime.peer import Peer
from midstreamer.sync.writes import stopping

GRACE_S = 1.0
"""So long requests of a peer that does not know Drain are taken after the drain began."""
MOVE_S = 3.0
"""So long a peer with nothing under way may stay until it has a link to another sync."""
LOOK_S = 0.1
"""A peer that does not know Drain is looked at so often."""


class Leaving:
    """Whether this process still takes requests, and how each of its peers is seen off."""

    def __init__(self, others: Callable[[], bool]) -> None:
        """``others``: whether another sync serves."""
        self._others = others
        self._since_s: float | None = None

    def check(self, peer: Peer) -> None:
        """Raise Unavailable for a new request that comes too late."""
        if self._since_s is None or _understands(peer):
            return  # a peer that understands Drain sends what was on its way, and then no more
        if asyncio.get_running_loop().time() > self._since_s + GRACE_S:
            raise stopping()

    async def all(self, peers: Iterable[Peer]) -> None:
        """Return when each of these peers has gone."""
        self._since_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for peer in peers:
                group.create_task(self._see_off(peer))

    async def _see_off(self, peer: Peer) -> None:
        peer.drain(leaving=True)
        if _understands(peer):
            await quiet(peer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOVE_S):
                    await self._moved(peer)
        else:
            await peer.settled()
            await asyncio.sleep(GRACE_S)
            while peer.busy and not peer.closed:  # noqa: ASYNC110 - an old peer tells nothing
                await asyncio.sleep(LOOK_S)
        await peer.close()

    async def _moved(self, peer: Peer) -> None:
        """Return when the peer has closed the link, or has nowhere else to go."""
        while self._others() and not peer.closed:
            try:
                async with asyncio.timeout(LOOK_S):
                    await peer.wait_closed()
            except TimeoutError:
                continue  # meanwhile the other sync may have gone as well


def _understands(peer: Peer) -> bool:
    return Capability.DRAIN in peer.capabilities
