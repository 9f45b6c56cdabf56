"""One connection that this side opened, on a socket of its own."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from aioquic.quic.connection import QuicConnection

from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Kind
from midstreamer.protocol.connection import Side
from midstreamer.security.chain import Presented, Role
from midstreamer.telemetry import logs
from midstreamer.transport import attendance, hosts
from midstreamer.transport.aioquic import enforcement, sockets
from midstreamer.transport.aioquic.sockets import DatagramSocket
from midstreamer.transport.aioquic.wire import QuicWire
from midstreamer.transport.framed import FramedLink, opening_error
from midstreamer.transport.hosts import SocketAddress
from midstreamer.transport.trust import Judged, Trust

log = logs.get(__name__)


class DialledLink:
    """One connection that this side opened, on a socket of its own."""

    def __init__(
        self,
        trust: Trust,
        sock: socket.socket,
        place: SocketAddress,
        kinds: frozenset[Kind],
        *,
        released: Callable[[DialledLink], None],
    ) -> None:
        self._trust = trust
        self._released = released
        self._place = place
        self._kinds = kinds
        self._judged: Judged | None = None
        self._ready: asyncio.Future[FramedLink] = asyncio.get_running_loop().create_future()
        self._refusals = 0
        self._opened = False
        quic = QuicConnection(
            configuration=enforcement.configuration(
                trust.current,
                trust.limits,
                is_client=True,
                datagram_bytes=sockets.datagram_bytes(place),
            )
        )
        enforcement.enforce(quic, self._judge)
        self.wire = QuicWire(quic, self)
        self._socket = DatagramSocket(
            sock, received=self._received, drained=self._drained, failed=self._failed
        )

    async def open(self) -> FramedLink:
        """Go through the handshakes of TLS and of the protocol."""
        self.wire.quic.connect(self._place, now=time.monotonic())
        self.wire.flush()
        link = await self._ready
        await link.opened()
        self._opened = True
        self.wire.keep_alive()
        return link

    @property
    def is_open(self) -> bool:
        """Whether both handshakes are done and neither side has closed."""
        return self._opened and not self.wire.over

    @property
    def earliest_expiry_s(self) -> float:
        """When the peer's certificate ends."""
        return self._judged.not_after_s if self._judged else float("inf")

    @property
    def authorities(self) -> set[str]:
        """Short hash of the authority that vouches for the peer, while the link is open."""
        return {self._judged.authority} if self._judged and self.is_open else set()

    def reconsider(self) -> None:
        """Judge the peer again; close when it would now be refused."""
        if self._judged is None or self.wire.link is None:
            return
        try:
            self._judged = self._trust.judge(self._judged.presented, Role.SERVES, self._kinds)
        except Refused as refusal:
            log.warning("peer.removed", peer=self._judged.identity.name, reason=refusal.reason)
            self.wire.link.end(refusal.reason, refusal.message)

    # --- Owner ---

    def send(self, data: bytes, address: SocketAddress) -> None:
        """Send a datagram; the socket is connected."""
        self._socket.send(data, None)

    def established(self, wire: QuicWire) -> FramedLink:
        """Our side has judged the server; whether it takes us, its acknowledgement tells."""
        if self._judged is None:
            raise RuntimeError("a handshake was completed by a server that was not judged")
        connection = self._trust.connection(Side.DIALLED, self._judged.identity)
        link = FramedLink(connection, wire, self._trust.limits)
        wire.link = link
        link.start()
        if not self._ready.done():
            self._ready.set_result(link)
        return link

    def numbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Everything that comes on this socket is for this wire."""

    def unnumbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Likewise."""

    def ended(self, wire: QuicWire, code: str, message: str) -> None:
        """Give the port back; nobody else is on it."""
        wire.stop()
        self._socket.close()
        self._released(self)
        if not self._ready.done():
            place = hosts.written(self._place)
            self._ready.set_exception(opening_error(code, f"no link to {place}: {code} {message}"))
            self._ready.exception()  # whoever dialled may have left

    def forgotten(self, wire: QuicWire) -> None:
        """Nothing is kept; the same again where ending failed half way."""
        self.ended(wire, "", "")

    # --- socket ---

    def _received(self, data: bytes, _address: SocketAddress) -> None:
        self._refusals = 0
        self.wire.datagram(data, self._place)

    def _drained(self) -> None:
        # After those who awaited what came: they are waited for, and may speak themselves.
        asyncio.get_running_loop().call_soon(self.wire.settle)

    def _failed(self, error: OSError) -> None:
        # The port is closed. Before the handshake that is an answer; later a stray message must
        # not end a connection, a second one with nothing between them does.
        self._refusals += 1
        if self.wire.link is None or self._refusals >= 2:
            self.wire.abandon("", f"{hosts.written(self._place)}: {error.strerror}")

    def _judge(self, presented: Presented) -> None:
        try:
            self._judged = self._trust.judge(presented, Role.SERVES, self._kinds)
        except Refused as refusal:
            attendance.refused(hosts.written(self._place), refusal)
            raise
