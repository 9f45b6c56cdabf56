"""The WebSocket server: a listening TCP socket, its connections, and how clients are verified."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from midstreamer.domain.errors import MidstreamerError, Overloaded
from midstreamer.protocol.connection import Code
from midstreamer.security.credentials import Credentials
from midstreamer.security.refusal_reasons import Reason
from midstreamer.telemetry import logs, metrics
from midstreamer.transport import hosts, open_links
from midstreamer.transport.framed_link import FramedLink
from midstreamer.transport.open_links import OpenLinks
from midstreamer.transport.peer_verification import AcceptedPeers
from midstreamer.transport.trust import Trust
from midstreamer.transport.websocket import tls as transport_tls
from midstreamer.transport.websocket import websocket_protocol
from midstreamer.transport.websocket import wire as wires
from midstreamer.transport.websocket.tls import HANDSHAKE_FAILED, Tls
from midstreamer.transport.websocket.wire import WssWire

log = logs.get(__name__)

BACKLOG = 128
HALF_OPEN_MAX = 256
"""Maximum connections whose peer is not verified yet. Each is an open file, and a process often may
have only 1024 open files."""
_COUNTED = frozenset(Reason)
"""Reasons of failed TLS handshakes that the metric counts by name. Others are counted together."""
FORBIDDEN, UNAVAILABLE = 403, 503
"""HTTP status for a client that may not connect, and for a server that has no room."""


class WssServer(AcceptedPeers[WssWire]):
    """A WebSocket server: one listening TCP socket and all its connections."""

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
        """Begin to listen at ``host:port``. Raise ConfigError if it cannot bind."""
        sock = await hosts.bound(address, socket.SOCK_STREAM)
        self._address = hosts.written(sock.getsockname())
        self._server = await asyncio.get_running_loop().create_server(
            self._accepted, sock=sock, backlog=BACKLOG
        )

    @property
    def address(self) -> str:
        """``host:port`` at which the server listens, with the real port if 0 was requested."""
        return self._address

    async def close(self) -> None:
        """Stop accepting connections and close every link."""
        self._server.close()
        await self._open_links.close(self)
        for wire in list(self._wires):
            wire.abandon("", "the server has closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(open_links.CLOSE_TIMEOUT_S):
                await self._empty.wait()  # wait until every peer has read all data and has closed
        for wire in list(self._wires):
            wire.drop()
        await asyncio.sleep(0)  # one turn, in which the loop closes each socket
        self._released(self)

    # --- connections ---

    def _accepted(self) -> WssWire:
        tls = Tls(self._tls_context(), server_side=True)
        return AcceptedWire(
            tls, websocket_protocol.server(), self, idle_s=self._trust.limits.idle_s
        )

    def _tls_context(self) -> ssl.SSLContext:
        """Return the TLS settings, made anew only when the credentials have changed."""
        current = self._trust.current
        if self._context is None or self._context[0] != current:
            self._context = current, transport_tls.context(current, server_side=True)
        return self._context[1]

    def connected(self, wire: WssWire) -> None:
        """Add a half-open connection with its deadline; close another if there is no room."""
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
        """Count the bytes received on a half-open connection.

        While all half-open connections together exceed their limit of bytes, end one of them.
        """
        self._half_open.hold(wire, wire.received_bytes)
        while (leaving := self._half_open.overfull()) is not None:
            self._give_up(leaving, Overloaded.code)

    def _give_up(self, wire: WssWire, reason: str) -> None:
        """End a half-open connection and free its memory, without waiting for the peer."""
        metrics.HANDSHAKES.labels(reason).inc()
        # The level is debug, so that an attack with many connections does not fill the log.
        log.debug("handshake.failed", code=reason)
        self._turned_away.add(wire)
        # Remove the connection from `_half_open` now, not when the loop has closed its socket.
        # Else several new connections in one turn of the loop would all choose to close this same
        # connection.
        self._no_longer_half_open(wire)
        wire.drop()

    # --- Owner ---

    def secured(self, wire: WssWire) -> None:
        """Verify a client after its TLS handshake; if it is refused, send an HTTP response."""
        try:
            self.judge(wire, wire.tls.presented, wires.place_of(wire))
        except MidstreamerError as refusal:
            full = isinstance(refusal, Overloaded)
            wire.refuse(UNAVAILABLE if full else FORBIDDEN, refusal)

    def established(self, wire: WssWire) -> FramedLink:
        """Start the link of a verified client, and its keepalive."""
        link = super().established(wire)
        wire.keep_alive()
        return link

    def ended(self, wire: WssWire, code: str, message: str) -> None:
        """Forget the peer of an ended connection. Its socket stays open until the peer closes."""
        # A wire in `_turned_away` is not counted, because its failure was counted before.
        if wire.link is None and wire not in self._turned_away:
            reason = code if code in _COUNTED else HANDSHAKE_FAILED
            metrics.HANDSHAKES.labels(reason).inc()
            log.debug("handshake.failed", code=code, detail=message)
            self._turned_away.add(wire)
        self._forget_peer(wire)

    def forgotten(self, wire: WssWire) -> None:
        """Drop all state of a wire whose socket is closed."""
        self._no_longer_half_open(wire)
        self.ended(wire, "", "")  # again, because the first call may have raised half way
        self._turned_away.discard(wire)
        self._wires.discard(wire)
        if not self._wires:
            self._empty.set()


class AcceptedWire(WssWire):
    """The wire of an accepted connection, which counts as half-open until it has a link."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the new connection with the server."""
        super().connection_made(transport)
        self._server.connected(self)

    def data_received(self, data: bytes) -> None:
        """Handle received bytes, and report their number to the server while half-open."""
        super().data_received(data)
        if self.link is None and not self.over:
            self._server.came(self)

    @property
    def _server(self) -> WssServer:
        assert isinstance(self._owner, WssServer)  # noqa: S101 - only for the type checker
        return self._owner
