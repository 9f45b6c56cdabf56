"""A listening end: the peers that are connected to it, and sending them away in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol.capabilities import Capability
from midstreamer.runtime.conversation import IN_FLIGHT_MAX, Handle, OnPeer, Peer
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Link, Server

log = logs.get(__name__)

SILENT = 0.43
"""Share of the idle period after which a peer has not answered in time: it was asked at a third,
and half a second is enough for an answer by default."""
ASKED = 1 / 3
"""Share of the idle period after which a live peer has spoken, or asked whether we live."""
QUIET_S = 0.5
"""A peer that does not know Drain has noticed the new link after so long."""
SILENT_S = 3.0
"""A peer that knows Drain says it at once. One that has not after so long is not waited for."""


async def listen(
    carrier: Carrier,
    address: str,
    *,
    handle: Handle,
    opened: OnPeer | None = None,
    closed: OnPeer | None = None,
    told_drain: Callable[[Peer], None] | None = None,
    in_flight_max: int = IN_FLIGHT_MAX,
) -> Listener:
    """Serve.

    ``opened`` begins before the peer's first frame is taken, runs beside the connection and is
    cancelled with it; ``closed`` runs after its last.  ``told_drain`` is called when it says Drain.
    """
    peers: set[Peer] = set()

    async def on_link(link: Link) -> None:
        peer = Peer(link, carrier.me, handle, in_flight_max=in_flight_max)
        if told_drain is not None:
            peer.on_drain = told_drain
        for other in _left_behind(peers, peer):
            await other.close()
        peers.add(peer)
        try:
            if listener.refusing:  # its handshake was under way when the others were told
                peer.drain(leaving=True)
            await _attended(peer, opened)
        finally:
            peers.discard(peer)
            if closed is not None:
                await closed(peer)

    listener = Listener(await carrier.serve(address, on_link), peers)
    return listener


def _left_behind(peers: Collection[Peer], new: Peer) -> list[Peer]:
    """Older links of the same process on which it is silent: it will say nothing there again.

    What waits for an answer on them is told at once, and not when they count as lost.
    """
    return [
        one
        for one in peers
        if one.identity == new.identity
        and one.incarnation == new.incarnation
        and one.silence > ASKED
    ]


class Listener:
    """A listening end, and the peers that are connected to it."""

    def __init__(self, server: Server, peers: set[Peer]) -> None:
        self.server = server
        self.refusing = False
        """New links are not taken any more."""
        self._peers = peers

    @property
    def address(self) -> str:
        """``host:port`` really bound."""
        return self.server.address

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Those that are connected now."""
        return tuple(self._peers)

    def refuse_new(self) -> None:
        """Take no new link; those that are open go on."""
        self.refusing = True
        self.server.refuse_new()

    async def sent_away(self, kinds: Collection[Kind]) -> None:
        """Tell peers of these kinds that this process is about to stop.

        Returns when nothing of theirs is under way and none will ask any more.  The caller bounds
        the time.
        """
        told: set[Peer] = set()
        while fresh := [p for p in self._peers if p.identity.kind in kinds and p not in told]:
            told.update(fresh)
            for peer in fresh:
                peer.drain(leaving=True)
            await asyncio.gather(*map(quiet, fresh))

    async def close(self) -> None:
        """Stop accepting and close every link."""
        await self.server.close()


async def _attended(peer: Peer, opened: OnPeer | None) -> None:
    """Run a peer to its end, with what its owner wants to do beside it."""
    following = asyncio.get_running_loop().create_task(beside(peer, opened)) if opened else None
    try:
        await asyncio.sleep(0)  # what it does before it first waits comes before the first frame
        await peer.run()
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})


async def beside(peer: Peer, opened: OnPeer) -> None:
    """Do what the owner wants to do beside a connection; its failure ends the connection."""
    try:
        await opened(peer)
    except MidstreamerError as error:
        log.warning("peer.dropped", peer=peer.identity.name, code=error.code, detail=error.message)
        await peer.close(error.code, error.message)
    except Exception:
        log.exception("peer.failed", peer=peer.identity.name)
        await peer.close(MidstreamerError.code, "this side failed")


async def quiet(peer: Peer) -> None:
    """Return when nothing is under way after `Peer.drain`, and nothing will come."""
    loop = asyncio.get_running_loop()
    silent_s = loop.time() + SILENT_S
    while not peer.closed and peer.silence < SILENT:
        if Capability.DRAIN in peer.capabilities:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await peer.settled()
                    return
            if peer.draining or loop.time() < silent_s:
                continue
        else:  # it sends requests here until it has noticed the newer link
            await asyncio.sleep(QUIET_S)
        if not peer.busy:
            return
