"""A listening TCP socket, the connections on it, and their judging."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from midstreamer.domain.errors import MidstreamerError, Overloaded
from midstreamer.protocol.connection import Code
from midstreamer.security.credentials import Credentials
from midstreamer.security.reasons import Reason
from midstreamer.telemetry import logs, metrics
from midstreamer.transport import hosts
from midstreamer.transport import open_links as attending
from midstreamer.transport.framed import FramedLink
from midstreamer.transport.judged import AcceptedPeers
from midstreamer.transport.open_links import OpenLinks
from midstreamer.transport.trust import Trust
from midstreamer.transport.websocket import tls as transport_tls
from midstreamer.transport.websocket import web
from midstreamer.transport.websocket import wire as wires
from midstreamer.transport.websocket.tls import HANDSHAKE_FAILED, Tls
from midstreamer.transport.websocket.wire import WssWire

log = logs.get(__name__)

BACKLOG = 128
HALF_OPEN_MAX = 256
"""Sockets whose peer was not judged; a process has often no more than 1,024 files in all."""
_COUNTED = frozenset(Reason)
"""What TLS itself objects to, by the words that refusals have."""
FORBIDDEN, UNAVAILABLE = 403, 503
"""How HTTP says that somebody may not, and that there is no room now."""


class WssServer(AcceptedPeers[WssWire]):
    """A listening socket and its connections."""

    def __init__(
        self,
        trust: Trust,
        open_links: OpenLinks,
        *,
        released: Callable[[WssServer], None],
    ) -> None:
        super().__init__(trust, open_links, half_open_max=HALF_OPEN_MAX)
        self._released = released
        self._wires: set[WssWire] = set()
        self._context: tuple[Credentials, ssl.SSLContext] | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server
        self._address = ""

    async def open(self, address: str) -> None:
        """Begin to listen; ConfigError names the address when it cannot."""
        sock = await hosts.bound(address, socket.SOCK_STREAM)
        self._address = hosts.written(sock.getsockname())
        self._server = await asyncio.get_running_loop().create_server(
            self._accepted, sock=sock, backlog=BACKLOG
        )

    @property
    def address(self) -> str:
        """``host:port`` really bound."""
        return self._address

    async def close(self) -> None:
        """Stop accepting and close every link."""
        self._server.close()
        await self._open_links.close(self)
        for wire in list(self._wires):
            wire.abandon("", "the server has closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(attending.FAREWELL_S):
                await self._empty.wait()  # the other sides close when they have read it all
        for wire in list(self._wires):
            wire.drop()
        await asyncio.sleep(0)  # so that each socket is given back
        self._released(self)

    # --- connections ---

    def _accepted(self) -> WssWire:
        tls = Tls(self._tls_context(), server_side=True)
        return AcceptedWire(tls, web.server(), self, idle_s=self._trust.limits.idle_s)

    def _tls_context(self) -> ssl.SSLContext:
        """Made once for all connections that show the same certificate."""
        current = self._trust.current
        if self._context is None or self._context[0] != current:
            self._context = current, transport_tls.context(current, server_side=True)
        return self._context[1]

    def connected(self, wire: WssWire) -> None:
        """Somebody has connected: a place is found, and a deadline set."""
        leaving = self._half_open.must_leave(wire.address)
        if leaving is not None:
            self._give_up(leaving, Overloaded.code)
        self._wires.add(wire)
        self._empty.clear()
        self._half_open.add(wire, wire.address)
        self._deadlines[wire] = asyncio.get_running_loop().call_later(
            self._trust.limits.handshake_s, self._give_up, wire, Code.TIMEOUT
        )

    def came(self, wire: WssWire) -> None:
        """Bytes came of a peer that was not judged; too much of all, and somebody leaves."""
        self._half_open.hold(wire, wire.received_bytes)
        while (leaving := self._half_open.overfull()) is not None:
            self._give_up(leaving, Overloaded.code)

    def _give_up(self, wire: WssWire, reason: str) -> None:
        """End a half-open connection and free all of it now: no link came of it."""
        metrics.HANDSHAKES.labels(reason).inc()
        log.debug("handshake.failed", code=reason)  # a flood must not fill the log as well
        self._turned_away.add(wire)
        # Its place is free now, and not when the loop has closed its socket: of several newcomers
        # in one turn, each finds another one that makes room.
        self._no_longer_half_open(wire)
        wire.drop()

    # --- Owner ---

    def secured(self, wire: WssWire) -> None:
        """TLS has let the client through: who is it, and is there room?"""
        try:
            self.judge(wire, wire.tls.presented, wires.place_of(wire))
        except MidstreamerError as refusal:
            full = isinstance(refusal, Overloaded)
            wire.refuse(UNAVAILABLE if full else FORBIDDEN, refusal)

    def established(self, wire: WssWire) -> FramedLink:
        """The client was judged on the way; from now on it may speak."""
        link = super().established(wire)
        wire.keep_alive()
        return link

    def ended(self, wire: WssWire, code: str, message: str) -> None:
        """Its place among the links is free; its socket is open until the other side closes."""
        if wire.link is None and wire not in self._turned_away:  # those are counted by their reason
            reason = code if code in _COUNTED else HANDSHAKE_FAILED
            metrics.HANDSHAKES.labels(reason).inc()
            log.debug("handshake.failed", code=code, detail=message)
            self._turned_away.add(wire)
        self._forget_peer(wire)

    def forgotten(self, wire: WssWire) -> None:
        """Its socket is closed."""
        self._no_longer_half_open(wire)
        self.ended(wire, "", "")  # done already, unless ending failed half way
        self._turned_away.discard(wire)
        self._wires.discard(wire)
        if not self._wires:
            self._empty.set()


class AcceptedWire(WssWire):
    """A wire that tells its server what comes before it is judged."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        super().connection_made(transport)
        self._server.connected(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        super().data_received(data)
        if self.link is None and not self.over:
            self._server.came(self)

    @property
    def _server(self) -> WssServer:
        assert isinstance(self._owner, WssServer)  # noqa: S101 - for the type alone
        return self._owner
