"""The QUIC server: a listening socket, its connections, and the verification of its clients."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # it is re-exported all the same
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_version_negotiation,
    pull_quic_header,
)

from midstreamer.domain.errors import Overloaded
from midstreamer.protocol.connection import Code
from midstreamer.telemetry import logs, metrics
from midstreamer.transport import hosts
from midstreamer.transport.aioquic import mutual_tls, sockets
from midstreamer.transport.aioquic.address_validation import AddressProof
from midstreamer.transport.aioquic.sockets import DatagramSocket
from midstreamer.transport.aioquic.wire import HANDSHAKE_FAILED, QuicWire
from midstreamer.transport.hosts import SocketAddress
from midstreamer.transport.open_links import OpenLinks
from midstreamer.transport.peer_verification import AcceptedPeers
from midstreamer.transport.trust import Trust

log = logs.get(__name__)

CONNECTION_ID_BYTES = 8
LONG_HEADER = b"\x80"
"""Lowest first byte of a packet with a long header: its first bit is set (RFC 8999, section 5)."""
LEAVING_MAX = 1024
"""Maximum connections kept in their closing period. They keep their connection ids, so that late
packets do not begin new connections. Above this limit the oldest is dropped early."""
VERSIONS = (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)


class QuicServer(AcceptedPeers[QuicWire]):
    """A QUIC server: one UDP socket and all connections on it."""

    def __init__(
        self,
        trust: Trust,
        sock: socket.socket,
        open_links: OpenLinks,
        *,
        released: Callable[[QuicServer], None],
    ) -> None:
        super().__init__(trust, open_links, half_open_max=None)
        self._released = released
        self._wires: dict[bytes, QuicWire] = {}
        self._numbers: dict[QuicWire, set[bytes]] = {}
        self._leaving: dict[QuicWire, None] = {}
        self._proof = AddressProof(connection_id_bytes=CONNECTION_ID_BYTES)
        self._touched: set[QuicWire] = set()
        self._socket = DatagramSocket(sock, received=self._received, drained=self._drained)
        self._address = hosts.written(self._socket.address)

    @property
    def address(self) -> str:
        """``host:port`` at which the server listens, with the real port if 0 was requested."""
        return self._address

    async def close(self) -> None:
        """Stop accepting connections and close every link."""
        await self._open_links.close(self)
        for wire in list(self._numbers):
            wire.hang_up("", "")
            wire.stop()
        self._socket.close()
        self._released(self)

    # --- datagrams ---

    def _received(self, data: bytes, address: SocketAddress) -> None:
        try:
            wire = self._wire(data, address)
            if wire is None:
                return
            wire.datagram(data, address)
            self._touched.add(wire)
            if wire.link is None:
                self._hold(wire)
        except Exception:  # one sender's datagram must not stop the server for other peers
            log.exception("datagram.failed", bytes=len(data))

    def _wire(self, data: bytes, address: SocketAddress) -> QuicWire | None:
        """Return the wire that a datagram belongs to, or a new one; None: ignore the datagram."""
        if data[:1] < LONG_HEADER:  # short header: the connection id follows the first byte
            return self._wires.get(data[1 : 1 + CONNECTION_ID_BYTES])
        header = _header(data)
        if header is None:
            return None  # not a QUIC packet
        return self._wires.get(header.destination_cid) or self._begin(header, len(data), address)

    def _hold(self, wire: QuicWire) -> None:
        """Note how many bytes a half-open connection holds.

        While all half-open connections together hold too many bytes, end one of them, from the
        source address whose connections hold most.
        """
        self._half_open.hold(wire, wire.handshake_bytes)
        while (leaving := self._half_open.overfull()) is not None:
            self._give_up(leaving, Overloaded.code)

    def _drained(self) -> None:
        # Let the tasks that awaited the received frames run first. Their answers can carry the
        # acknowledgements.
        asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        touched, self._touched = self._touched, set()
        for wire in touched:
            wire.settle()

    def _begin(self, header: QuicHeader, size: int, address: SocketAddress) -> QuicWire | None:
        """Return a wire for a new connection; None if the packet cannot begin one."""
        negotiating = header.packet_type == QuicPacketType.VERSION_NEGOTIATION
        if header.version is not None and header.version not in VERSIONS:
            if not negotiating and size >= SMALLEST_MAX_DATAGRAM_SIZE:
                self.send(_versions(header), address)
            return None
        if header.packet_type != QuicPacketType.INITIAL or size < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        original_cid = self._original_cid(header, address)
        if original_cid is None:
            return None
        self._make_room(address)
        return self._open(header, original_cid, address)

    def _original_cid(self, header: QuicHeader, address: SocketAddress) -> bytes | None:
        """Return the connection id that the client chose first.

        Return None if the client must prove its address and has not done so.
        """
        now_s = time.monotonic()
        if header.token:
            return self._proof.original_cid(header, address, now_s=now_s)
        if not self._half_open.crowded:
            return header.destination_cid
        self.send(self._proof.request(header, address, now_s=now_s), address)
        return None

    def _open(self, header: QuicHeader, original_cid: bytes, address: SocketAddress) -> QuicWire:
        quic = QuicConnection(
            configuration=mutual_tls.configuration(
                self._trust.current,
                self._trust.limits,
                is_client=False,
                datagram_bytes=sockets.datagram_bytes(address),
            ),
            original_destination_connection_id=original_cid,
            retry_source_connection_id=header.destination_cid if header.token else None,
        )
        wire = QuicWire(quic, self)
        place = hosts.written(address)
        mutual_tls.enforce(quic, lambda presented: self.judge(wire, presented, place))
        try:
            self._numbers[wire] = set()
            self._half_open.add(wire, address)
            self._deadlines[wire] = asyncio.get_running_loop().call_later(
                self._trust.limits.handshake_s, self._give_up, wire, Code.TIMEOUT
            )
            self.numbered(wire, header.destination_cid)
            self.numbered(wire, quic.host_cid)
        except Exception:
            self.forgotten(wire)
            raise
        return wire

    def _make_room(self, address: SocketAddress) -> None:
        leaving = self._half_open.must_leave(address)
        if leaving is not None:
            self._give_up(leaving, Overloaded.code)

    def _give_up(self, wire: QuicWire, reason: str) -> None:
        """End a half-open connection and free all its memory at once."""
        metrics.HANDSHAKES.labels(reason).inc()
        log.debug("handshake.failed", code=reason)  # debug: a flood must not fill the log
        self._turned_away.add(wire)
        wire.hang_up(reason, "")
        wire.stop()
        self.forgotten(wire)

    # --- Owner ---

    def send(self, data: bytes, address: SocketAddress) -> None:
        """Send a datagram to an address."""
        self._socket.send(data, address)

    def numbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Route datagrams with this connection id to this wire."""
        if wire in self._numbers:
            self._wires[connection_id] = wire
            self._numbers[wire].add(connection_id)

    def unnumbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Stop routing datagrams with this connection id to this wire."""
        if wire in self._numbers:
            self._wires.pop(connection_id, None)
            self._numbers[wire].discard(connection_id)

    def ended(self, wire: QuicWire, code: str, message: str) -> None:
        """Free the place of an ended connection, but keep its connection ids for late packets."""
        # The handshakes of peers in `_turned_away` were counted when these peers were refused.
        if wire.link is None and wire not in self._turned_away:
            metrics.HANDSHAKES.labels(HANDSHAKE_FAILED).inc()
            log.debug("handshake.failed", code=code, detail=message)
        self._give_place_back(wire)
        self._leaving[wire] = None
        if len(self._leaving) > LEAVING_MAX:
            oldest = next(iter(self._leaving))
            oldest.stop()
            self.forgotten(oldest)

    def forgotten(self, wire: QuicWire) -> None:
        """Drop a wire and its connection ids. This takes no longer if there are more wires."""
        self._give_place_back(wire)  # usually `ended` has done this already
        for connection_id in self._numbers.pop(wire, ()):
            self._wires.pop(connection_id, None)
        self._touched.discard(wire)
        self._leaving.pop(wire, None)

    def _give_place_back(self, wire: QuicWire) -> None:
        self._no_longer_half_open(wire)
        self._forget_peer(wire)
        self._turned_away.discard(wire)


def _header(data: bytes) -> QuicHeader | None:
    try:
        return pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
    except ValueError:
        return None


def _versions(header: QuicHeader) -> bytes:
    return encode_quic_version_negotiation(
        source_cid=header.destination_cid,
        destination_cid=header.source_cid,
        supported_versions=[int(version) for version in VERSIONS],
    )
