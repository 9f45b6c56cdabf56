"""A server and its connected peers. Before it stops, it tells the peers to use other servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol.capabilities import Capability
from midstreamer.runtime.link_requests import IN_FLIGHT_MAX, Handle, OnPeer, Peer
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Link, Server

log = logs.get(__name__)

SILENT = 0.43
"""Share of the idle timeout. When no packet has come for so long, the answer of the peer to a
keepalive is overdue. With the default timeout of 5 s, the keepalive is sent after 1.67 s, and its
answer is overdue after 2.15 s."""
ASKED = 1 / 3
"""Share of the idle timeout after which a peer sends a keepalive. So when no packet has come for
longer, the link is silent: the peer may be dead."""
QUIET_S = 0.5
"""Seconds to wait for a peer that does not support Drain. Then it is assumed to have noticed its
newer link, and to send its requests there."""
SILENT_S = 3.0
"""Maximum seconds to wait for the Drain of a peer that supports Drain; a live peer sends it at
once."""


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
    """Listen at ``address`` and serve each peer that connects; return the `Listener`.

    ``handle`` answers requests.  ``opened`` is started for each peer before its first frame is
    handled, runs in parallel with the connection and is cancelled when the connection ends.
    ``closed`` runs after the peer's last frame.  ``told_drain`` is called when the peer sends
    Drain.
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
            if listener.refusing:  # the link's handshake began before `refuse_new` was called
                peer.drain(leaving=True)
            await _serve_peer(peer, opened)
        finally:
            peers.discard(peer)
            if closed is not None:
                await closed(peer)

    listener = Listener(await carrier.serve(address, on_link), peers)
    return listener


def _left_behind(peers: Collection[Peer], new: Peer) -> list[Peer]:
    """Return the silent older links of the process that has just opened the link ``new``.

    A link is silent if no packet came for longer than `ASKED`.  The process will not use such a
    link again.  If the link is closed now, the requests that wait on it fail immediately, not only
    when the idle timeout expires.
    """
    return [
        peer
        for peer in peers
        if peer.identity == new.identity
        and peer.incarnation == new.incarnation
        and peer.silence > ASKED
    ]


class Listener:
    """A listening server and the peers that are connected to it."""

    def __init__(self, server: Server, peers: set[Peer]) -> None:
        self.server = server
        self.refusing = False
        """Whether new links are refused."""
        self._peers = peers

    @property
    def address(self) -> str:
        """``host:port`` that the server is bound to, with the real port if 0 was asked for."""
        return self.server.address

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers that are connected now."""
        return tuple(self._peers)

    def refuse_new(self) -> None:
        """Refuse new links; open links go on."""
        self.refusing = True
        self.server.refuse_new()

    async def sent_away(self, kinds: Collection[Kind]) -> None:
        """Send Drain to all peers of these kinds, because this process is about to stop.

        Returns when no request of these peers is under way and none of them will send another.
        There is no timeout here; the caller sets one.
        """
        drained: set[Peer] = set()
        while fresh := [p for p in self._peers if p.identity.kind in kinds and p not in drained]:
            drained.update(fresh)
            for peer in fresh:
                peer.drain(leaving=True)
            await asyncio.gather(*map(quiet, fresh))

    async def close(self) -> None:
        """Stop accepting and close every link."""
        await self.server.close()


async def _serve_peer(peer: Peer, opened: OnPeer | None) -> None:
    """Run a peer until its connection ends, with ``opened`` as a task in parallel."""
    following = asyncio.get_running_loop().create_task(beside(peer, opened)) if opened else None
    try:
        await asyncio.sleep(0)  # let `opened` run up to its first await before the first frame
        await peer.run()
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})


async def beside(peer: Peer, opened: OnPeer) -> None:
    """Run ``opened`` for a peer; if it fails, log the error and close the connection."""
    try:
        await opened(peer)
    except MidstreamerError as error:
        log.warning("peer.dropped", peer=peer.identity.name, code=error.code, detail=error.message)
        await peer.close(error.code, error.message)
    except Exception:
        log.exception("peer.failed", peer=peer.identity.name)
        await peer.close(MidstreamerError.code, "this side failed")


async def quiet(peer: Peer) -> None:
    """Return when, after `Peer.drain`, no request is under way on a link and none will come.

    Returns early when the link closes or an answer of the peer is overdue (`SILENT`).
    """
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
        else:
            # The peer does not support Drain. It sends requests on this link until it notices that
            # it has a newer link.
            await asyncio.sleep(QUIET_S)
        if not peer.busy:
            return
