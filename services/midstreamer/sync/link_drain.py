"""Drains and closes the link of every peer when sync drains, without losing a request.

A peer that understands the Drain frame receives one.  It sends its next requests to another sync
and answers with a Drain of its own.  When no request is in progress on the link, the peer may keep
the link for at most `MOVE_S`: in this time it starts to follow the change feed at another sync,
and closes the link itself.  If no other sync is serving, the link is closed immediately, and the
peer redials until the successor of this process listens.

A peer of an older version does not understand Drain.  Its requests are answered for `GRACE_S`,
because some are already on the way.  Later requests are refused as `unavailable`, and the link is
closed when no request is in progress.  The peer retries what was refused; no tick or decision is
stored twice, because each has a natural key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from midstreamer.protocol.capabilities import Capability
from midstreamer.runtime.peer import Peer
from midstreamer.runtime.peer_server import quiet
from midstreamer.sync.writes import stopping

GRACE_S = 1.0
"""Seconds after the start of the drain in which requests are still accepted from a peer that does
not understand Drain."""
MOVE_S = 3.0
"""Maximum seconds that an idle peer may keep its link while it connects to another sync."""
LOOK_S = 0.1
"""Seconds between two checks of one link during the drain.

If the peer does not understand Drain, each check asks whether a request is in progress on the link;
if none is, the link is closed.  If the peer understands Drain, the checks begin when no request is
in progress.  Each check asks whether another sync is serving.  If no sync is, the peer cannot move,
and the link is closed at once.  Otherwise the peer may keep the link until `MOVE_S` are over."""


class Leaving:
    """The drain of all links of this process: refuses late requests and closes the links."""

    def __init__(self, others: Callable[[], bool]) -> None:
        """``others`` returns whether another sync is serving."""
        self._others = others
        self._since_s: float | None = None

    def check(self, peer: Peer) -> None:
        """Raise Unavailable once `GRACE_S` are over, if the peer does not understand Drain."""
        if self._since_s is None or _understands(peer):
            return  # a peer that understands Drain stops sending requests by itself
        if asyncio.get_running_loop().time() > self._since_s + GRACE_S:
            raise stopping()

    async def all(self, peers: Iterable[Peer]) -> None:
        """Start the drain; return when the links of all these peers are closed."""
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
            while peer.busy and not peer.closed:  # noqa: ASYNC110 - an old peer sends no event
                await asyncio.sleep(LOOK_S)
        await peer.close()

    async def _moved(self, peer: Peer) -> None:
        """Return when the peer has closed the link, or when no other sync is serving."""
        while self._others() and not peer.closed:
            try:
                async with asyncio.timeout(LOOK_S):
                    await peer.wait_closed()
            except TimeoutError:
                continue  # look again whether another sync is still serving


def _understands(peer: Peer) -> bool:
    return Capability.DRAIN in peer.capabilities
