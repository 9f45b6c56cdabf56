"""A listening socket, the connections on it, and their judging."""

from __future__ import annotations

import socket
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

from midstreamer.domain.errors import MidstreamerError, Overloaded
from midstreamer.protocol import authorisation
from midstreamer.protocol.connection import Side
from midstreamer.security.chain import Presented, Role
from midstreamer.telemetry import logs, metrics
from midstreamer.transport import attendance
from midstreamer.transport.aioquic import enforcement, sockets
from midstreamer.transport.aioquic.sockets import DatagramSocket, SocketAddress
from midstreamer.transport.aioquic.trust import Judged, Trust
from midstreamer.transport.aioquic.wire import HANDSHAKE_FAILED, QuicWire
from midstreamer.transport.attendance import Attendance
from midstreamer.transport.carrier import OnLink
from midstreamer.transport.framed import FramedLink

log = logs.get(__name__)

CONNECTION_ID_BYTES = 8
HALF_OPEN_MAX = 1024
"""Connections that are still in their handshake; further ones are not answered."""
VERSIONS = (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)


class QuicServer:
    """A listening socket and its connections."""

    def __init__(
        self,
        trust: Trust,
        sock: socket.socket,
        on_link: OnLink,
        *,
        released: Callable[[QuicServer], None],
    ) -> None:
        self._trust = trust
        self._released = released
        self._kinds = authorisation.accepts(trust.manager.identity.kind)
        self._wires: dict[bytes, QuicWire] = {}
        self._numbers: dict[QuicWire, set[bytes]] = {}
        self._judged: dict[QuicWire, Judged] = {}
        self._wire_of: dict[FramedLink, QuicWire] = {}
        self._turned_away: set[QuicWire] = set()
        self._half_open = 0
        self._touched: set[QuicWire] = set()
        self._attendance = Attendance(on_link, self._judge_again)
        self._socket = DatagramSocket(sock, received=self._received, drained=self._drained)
        self._address = sockets.written(self._socket.address)

    @property
    def address(self) -> str:
        """``host:port`` really bound."""
        return self._address

    def reconsider(self) -> None:
        """Judge every open link again; close those that would now be refused."""
        self._attendance.reconsider()

    async def close(self) -> None:
        """Stop accepting and close every link."""
        await self._attendance.close()
        for wire in list(self._numbers):
            wire.hang_up("", "")
            wire.stop()
        self._socket.close()
        self._released(self)

    @property
    def earliest_expiry_s(self) -> float:
        """When the first certificate of a connected peer ends."""
        ends = (judged.not_after_s for judged in self._judged.values())
        return min(ends, default=float("inf"))

    # --- datagrams ---

    def _received(self, data: bytes, address: SocketAddress) -> None:
        header = _header(data)
        if header is None:
            return  # whatever this is, it is not QUIC, and is not answered
        wire = self._wires.get(header.destination_cid)
        if wire is None:
            wire = self._begin(header, len(data), address)
        if wire is not None:
            wire.datagram(data, address)
            self._touched.add(wire)

    def _drained(self) -> None:
        touched, self._touched = self._touched, set()
        for wire in touched:
            wire.settle()

    def _begin(self, header: QuicHeader, size: int, address: SocketAddress) -> QuicWire | None:
        """A wire for a new connection; None for what cannot begin one."""
        negotiating = header.packet_type == QuicPacketType.VERSION_NEGOTIATION
        if header.version is not None and header.version not in VERSIONS:
            if not negotiating and size >= SMALLEST_MAX_DATAGRAM_SIZE:
                self.send(_versions(header), address)
            return None
        initial = header.packet_type == QuicPacketType.INITIAL
        if not initial or size < SMALLEST_MAX_DATAGRAM_SIZE or self._half_open >= HALF_OPEN_MAX:
            return None
        quic = QuicConnection(
            configuration=enforcement.configuration(
                self._trust.manager.current,
                self._trust.limits,
                is_client=False,
                datagram_bytes=sockets.datagram_bytes(address),
            ),
            original_destination_connection_id=header.destination_cid,
        )
        wire = QuicWire(quic, self._trust.limits, self)
        enforcement.enforce(quic, self._judging(wire, sockets.written(address)))
        self._half_open += 1
        self._numbers[wire] = set()
        self.numbered(wire, header.destination_cid)
        self.numbered(wire, quic.host_cid)
        return wire

    def _judging(self, wire: QuicWire, place: str) -> Callable[[Presented], None]:
        def judge(presented: Presented) -> None:
            try:
                judged = self._trust.judge(presented, Role.DIALS, self._kinds)
                self._require_room()
            except MidstreamerError as refusal:
                attendance.refused(place, refusal)
                self._turned_away.add(wire)
                raise
            self._judged[wire] = judged

        return judge

    def _require_room(self) -> None:
        links_max = self._trust.limits.links_max
        if len(self._attendance.links) >= links_max:
            raise Overloaded(f"{Overloaded.code}: {self.address} keeps links_max={links_max} links")

    def _judge_again(self, link: FramedLink) -> None:
        judged = self._judged[self._wire_of[link]]
        self._trust.judge(judged.presented, Role.DIALS, self._kinds)

    # --- Owner ---

    def send(self, data: bytes, address: SocketAddress) -> None:
        """Send a datagram."""
        self._socket.send(data, address)

    def established(self, wire: QuicWire) -> FramedLink:
        """The client was judged on the way; from now on it may speak."""
        judged = self._judged.get(wire)
        if judged is None:
            raise RuntimeError("a handshake was completed by a client that was not judged")
        self._half_open -= 1
        connection = self._trust.connection(Side.ACCEPTED, judged.identity)
        link = FramedLink(connection, wire, self._trust.limits)
        wire.link = link
        self._wire_of[link] = wire
        self._attendance.welcome(link)
        return link

    def numbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Datagrams with this number are for this wire."""
        self._wires[connection_id] = wire
        self._numbers[wire].add(connection_id)

    def unnumbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """And no longer."""
        self._wires.pop(connection_id, None)
        self._numbers[wire].discard(connection_id)

    def ended(self, wire: QuicWire, code: str, message: str) -> None:
        """Keep the numbers for a while: what the peer still sends must not begin anew."""
        if wire.link is not None:
            self._wire_of.pop(wire.link, None)
        else:
            self._half_open -= 1
            if wire not in self._turned_away:  # those are counted by their reason
                metrics.HANDSHAKES.labels(HANDSHAKE_FAILED).inc()
                log.debug("handshake.failed", code=code, detail=message)
        self._judged.pop(wire, None)
        self._turned_away.discard(wire)

    def forgotten(self, wire: QuicWire) -> None:
        """Free its numbers; a wire knows its own, so that this costs the same for any crowd."""
        for connection_id in self._numbers.pop(wire, ()):
            self._wires.pop(connection_id, None)
        self._touched.discard(wire)


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
