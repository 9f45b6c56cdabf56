"""The client side of a QUIC connection: one dialled connection on a socket of its own."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from aioquic.quic.connection import QuicConnection

from midstreamer.domain.identity import Kind
from midstreamer.telemetry import logs
from midstreamer.transport import hosts
from midstreamer.transport.aioquic import mutual_tls, sockets
from midstreamer.transport.aioquic.sockets import DatagramSocket
from midstreamer.transport.aioquic.wire import QuicWire
from midstreamer.transport.framed_link import FramedLink
from midstreamer.transport.hosts import SocketAddress
from midstreamer.transport.peer_verification import DialledPeer
from midstreamer.transport.trust import Trust

log = logs.get(__name__)


class DialledLink(DialledPeer[QuicWire]):
    """One dialled QUIC connection, its own UDP socket, and the verification of its server."""

    def __init__(
        self,
        trust: Trust,
        sock: socket.socket,
        place: SocketAddress,
        kinds: frozenset[Kind],
        *,
        released: Callable[[DialledLink], None],
    ) -> None:
        super().__init__(trust, hosts.written(place), kinds)
        self._released = released
        self._place = place
        self._refusals = 0
        quic = QuicConnection(
            configuration=mutual_tls.configuration(
                trust.current,
                trust.limits,
                is_client=True,
                datagram_bytes=sockets.datagram_bytes(place),
            )
        )
        mutual_tls.enforce(quic, self.judge)
        self.wire = QuicWire(quic, self)
        self._socket = DatagramSocket(
            sock, received=self._received, drained=self._drained, failed=self._failed
        )

    async def open(self) -> FramedLink:
        """Complete the handshakes of QUIC with TLS and of the protocol; return the link."""
        self.wire.quic.connect(self._place, now=time.monotonic())
        self.wire.flush()
        link = await self._ready
        await link.opened()
        self._opened = True
        self.wire.keep_alive()
        return link

    # --- Owner ---

    def send(self, data: bytes, address: SocketAddress) -> None:
        """Send a datagram on the connected socket. ``address`` is not used."""
        self._socket.send(data, None)

    def numbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Do nothing: the socket has only this wire, so datagrams need no routing."""

    def unnumbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Do nothing: the socket has only this wire, so datagrams need no routing."""

    def ended(self, wire: QuicWire, code: str, message: str) -> None:
        """Close the socket, which only this connection uses, and let a waiting dial fail."""
        wire.stop()
        self._socket.close()
        self._released(self)
        self._not_opened(code, message)

    def forgotten(self, wire: QuicWire) -> None:
        """Call `ended` again, because its first call may have raised before it was complete.

        Nothing else must be released.
        """
        self.ended(wire, "", "")

    # --- socket ---

    def _received(self, data: bytes, _address: SocketAddress) -> None:
        self._refusals = 0
        self.wire.datagram(data, self._place)

    def _drained(self) -> None:
        # Let the tasks that awaited the received frames run first. What they send can carry the
        # acknowledgements.
        asyncio.get_running_loop().call_soon(self.wire.settle)

    def _failed(self, error: OSError) -> None:
        # Usually the error means that the server's port is closed. One error ends the dial if the
        # handshake is not complete. Later, one error is not enough, because it may be forged: the
        # connection ends after two errors, if no datagram was received between them.
        self._refusals += 1
        if self.wire.link is None or self._refusals >= 2:
            self.wire.abandon("", f"{self._written}: {error.strerror}")
