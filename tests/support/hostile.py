"""A client that breaks the protocol on purpose, over QUIC and over memory.

`Intruder` is the common base: it writes any bytes to any stream, reads answers as plain maps, and
records how its connection ended. `QuicIntruder` drives aioquic on its own UDP socket, with none of
our transport. It can present any certificate or none, change transport parameters, put raw frames
into encrypted packets, send raw datagrams, change its port and never acknowledge. `memory_intruder`
connects to a memory server. This module makes no assertions about the server.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # it is re-exported all the same
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicPacketType,
    pull_quic_transport_parameters,
    push_quic_transport_parameters,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStreamSender

from midstreamer.domain.identity import Identity
from midstreamer.protocol import codec, frames
from midstreamer.protocol.connection import BULK_STREAM, CONTROL_STREAM, Side
from midstreamer.security.credentials import Credentials
from midstreamer.transport import memory
from midstreamer.transport.carrier import Carrier, Limits
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork, MemoryWire
from tests.support.identity_builders import Installation, credentials

WITHIN_S = 5.0
PACKET_TYPES = {
    tls.Epoch.INITIAL: QuicPacketType.INITIAL,
    tls.Epoch.HANDSHAKE: QuicPacketType.HANDSHAKE,
    tls.Epoch.ONE_RTT: QuicPacketType.ONE_RTT,
}


@dataclass(frozen=True)
class End:
    """How a connection ended, as the intruder saw it."""

    code: str
    """The name of the refusal with which the server ended the connection; empty without a name."""
    message: str
    error: int | None = None
    """The QUIC error code with which the connection ended; None on the memory carrier."""


def framed(body: bytes) -> bytes:
    """Put the length of ``body`` before it, as in a frame; ``body`` need not be a valid frame."""
    return len(body).to_bytes(codec.HEAD_BYTES, "big") + body


def a_frame(name: str, **fields: object) -> bytes:
    """Encode a frame with any name and any fields, whether or not the protocol defines them."""
    return framed(msgspec.msgpack.encode({"frame": name, **fields}))


def nested(depth: int) -> bytes:
    """A Survey frame with a field that Survey lacks; the field holds ``depth`` nested arrays."""
    value = b"\x91" * depth + b"\xc0"
    return framed(b"\x82\xa5frame\xa6Survey\xa1x" + value)


def hello(me: Identity, *, version: int = frames.VERSION) -> bytes:
    """The handshake frame that an honest client sends first."""
    return codec.encode(frames.AgentHandshake(me.id, me.kind, version, incarnation="intruder"))


class Intruder:
    """A client that writes any bytes, reads frames as maps and records its connection's end."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.received_bytes = 0
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._splitters: dict[int, codec.Splitter] = {}

    def write(self, data: bytes, *, stream: int = CONTROL_STREAM, end: bool = False) -> None:
        """Write any bytes to any stream."""
        raise NotImplementedError

    async def answer(self) -> dict[str, Any]:
        """Return the next received frame as a plain map."""
        return await asyncio.wait_for(self._answers.get(), WITHIN_S)

    async def end(self) -> End:
        """Return how the connection ended; raise TimeoutError while it is open."""
        return await asyncio.wait_for(asyncio.shield(self.ended), WITHIN_S)

    async def greet(self, me: Identity) -> dict[str, Any]:
        """Complete the protocol handshake as an honest client; return the acknowledgement."""
        self.write(hello(me))
        acknowledged = await self.answer()
        self.write(codec.OPENING, stream=BULK_STREAM)
        return acknowledged

    def _came(self, stream: int, data: bytes) -> None:
        self.received_bytes += len(data)
        splitter = self._splitters.setdefault(stream, codec.Splitter(frame_bytes_max=1 << 26))
        for body in splitter.feed(data):
            self._answers.put_nowait(msgspec.msgpack.decode(body))

    def _over(self, end: End) -> None:
        if not self.ended.done():
            self.ended.set_result(end)


# --- QUIC -----------------------------------------------------------------------------------------


class QuicIntruder(Intruder):
    """Drives aioquic directly on one UDP socket."""

    def __init__(self, address: str, configuration: QuicConfiguration) -> None:
        super().__init__()
        host, _, port = address.rpartition(":")
        self.quic = QuicConnection(configuration=configuration)
        self._settled = asyncio.Event()
        self.established = False
        """Whether the client has done its TLS handshake; the server may still refuse the client."""
        self.largest_datagram = 0
        """Size of the largest datagram that this client has received, in bytes."""
        self.deaf = False
        """While True, this client drops received datagrams unread, so it acknowledges nothing."""
        self._to = (host, int(port))
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._socket = self._opened_socket()

    # The methods from here to `vanish` do what honest clients do too.

    def begin(self) -> Self:
        """Build the first packet; the caller may still change it before `flush`."""
        self.quic.connect(self._to, now=time.monotonic())
        return self

    async def connect(self) -> None:
        """Complete the TLS handshake, or return when the connection has ended."""
        self.begin().flush()
        await asyncio.wait_for(self._settled.wait(), WITHIN_S)

    async def open(self, me: Identity) -> Self:
        """Complete the TLS and protocol handshakes; open no stream except the control stream."""
        await self.connect()
        self.write(hello(me))
        await self.answer()
        return self

    def write(self, data: bytes, *, stream: int = CONTROL_STREAM, end: bool = False) -> None:
        """Send bytes on any stream, not only on the next one that aioquic would open."""
        self.quic.send_stream_data(stream, data, end_stream=end)
        self.flush()

    def flush(self) -> None:
        """Send the packets that aioquic has ready, and set the timer that aioquic asks for."""
        if self._socket.fileno() < 0:
            return
        for data, _ in self.quic.datagrams_to_send(now=time.monotonic()):
            self.raw(data)
        self._set_timer()

    def leave(self) -> None:
        """Close the connection and the socket."""
        self.quic.close()
        self.flush()
        self.vanish()

    def vanish(self) -> None:
        """Close the socket without closing the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    # The methods `raw`, `inject` and `move` do what only hostile clients do.

    def raw(self, datagram: bytes) -> None:
        """Send any bytes as one datagram."""
        try:
            self._socket.sendto(datagram, self._to)
        except (BlockingIOError, ConnectionRefusedError):
            pass

    def inject(
        self, payload: bytes, *, epoch: tls.Epoch = tls.Epoch.ONE_RTT, eliciting: bool = True
    ) -> None:
        """Send one correctly encrypted packet that holds exactly these bytes as its QUIC frames.

        An Initial packet is padded to the size that a first datagram needs.
        """
        quic = self.quic
        builder = QuicPacketBuilder(
            host_cid=quic.host_cid,
            peer_cid=quic._peer_cid.cid,
            peer_token=quic._peer_token,
            version=quic._version or quic.configuration.supported_versions[0],
            is_client=True,
            max_datagram_size=max(1200, len(payload) + 100),
            packet_number=quic._packet_number,
        )
        builder.start_packet(PACKET_TYPES[epoch], quic._cryptos[epoch])
        builder._packet.is_ack_eliciting = eliciting  # type: ignore[union-attr]
        builder._buffer.push_bytes(payload)
        datagrams, _ = builder.flush()
        quic._packet_number = builder.packet_number
        for datagram in datagrams:
            self.raw(datagram)

    def move(self) -> None:
        """Continue from another port, like a client behind a NAT that lost its mapping."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = self._opened_socket()

    # --- shell ---

    def _opened_socket(self) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        opened.bind(("127.0.0.1", 0))
        self._loop.add_reader(opened.fileno(), self._readable)
        return opened

    def _readable(self) -> None:
        try:
            while self._socket.fileno() >= 0:
                data, address = self._socket.recvfrom(65_536)
                self.largest_datagram = max(self.largest_datagram, len(data))
                if not self.deaf:
                    self.quic.receive_datagram(data, address, now=time.monotonic())
                    self._take_events()
        except (BlockingIOError, ConnectionRefusedError):
            pass
        self.flush()

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case events.HandshakeCompleted():
                    self.established = True
                    self._settled.set()
                case events.StreamDataReceived(data, _, stream):
                    self._came(stream, data)
        # Aioquic sets this attribute when the connection closes; its public event comes later.
        closing = self.quic._close_event
        if closing is not None:
            code, colon, message = closing.reason_phrase.partition(": ")
            refusal = (code, message) if colon else ("", closing.reason_phrase)
            self._over(End(*refusal, closing.error_code))
            self._settled.set()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due_s = self.quic.get_timer()
        if due_s is not None:
            self._timer = self._loop.call_later(due_s - time.monotonic(), self._timer_fired)

    def _timer_fired(self) -> None:
        self.quic.handle_timer(now=time.monotonic())
        self._take_events()
        self.flush()


def a_quic_intruder(
    address: str,
    holding: Credentials | None = None,
    *,
    alpn: str = frames.ALPN,
    parameters: dict[str, Any] | None = None,
    **configured: Any,
) -> QuicIntruder:
    """Make a hostile QUIC client with these credentials; it has sent nothing yet.

    ``parameters`` changes transport parameters by their name in aioquic, as in
    ``{"max_udp_payload_size": 1200}``; ``configured`` goes to QuicConfiguration.
    """
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE, **configured
    )
    if holding is not None:
        configuration.certificate = holding.certificate
        configuration.certificate_chain = list(holding.intermediates)
        configuration.private_key = holding.key
    intruder = QuicIntruder(address, configuration)
    _with_parameters(intruder.quic, parameters or {})
    return intruder


@asynccontextmanager
async def quic_intruder(
    address: str, holding: Credentials | None, *, begin: bool = True, **asked: Any
) -> AsyncIterator[QuicIntruder]:
    """A client as `a_quic_intruder` makes it; with ``begin`` its TLS handshake is complete."""
    intruder = a_quic_intruder(address, holding, **asked)
    try:
        if begin:
            await intruder.connect()
        yield intruder
    finally:
        intruder.leave()


def _with_parameters(quic: QuicConnection, changes: dict[str, Any]) -> None:
    serialize = quic._serialize_transport_parameters

    def serialized() -> bytes:
        parameters = pull_quic_transport_parameters(Buffer(data=serialize()))
        for name, value in changes.items():
            setattr(parameters, name, value)
        buffer = Buffer(capacity=4096)
        push_quic_transport_parameters(buffer, parameters)
        return bytes(buffer.data)

    quic._serialize_transport_parameters = serialized  # type: ignore[method-assign]


def displace(sender: QuicStreamSender, offset: int, data: bytes = b"x") -> None:
    """Make a stream send these bytes at this offset, and never the bytes before the offset."""
    sender._buffer[:] = data
    sender._buffer_start, sender._buffer_stop = offset, offset + len(data)
    sender._pending = RangeSet([range(offset, offset + len(data))])
    sender.highest_offset = offset
    sender.buffer_is_empty = False


def variable(value: int) -> bytes:
    """Encode an integer in QUIC's variable-length encoding (RFC 9000, section 16)."""
    buffer = Buffer(capacity=8)
    buffer.push_uint_var(value)
    return bytes(buffer.data)


def crypto_frame(offset: int, data: bytes) -> bytes:
    """Encode a CRYPTO frame of QUIC for `QuicIntruder.inject`."""
    return b"\x06" + variable(offset) + variable(len(data)) + data


def stream_frame(stream: int, offset: int, data: bytes) -> bytes:
    """Encode a STREAM frame of QUIC with offset and length for `QuicIntruder.inject`."""
    return b"\x0e" + variable(stream) + variable(offset) + variable(len(data)) + data


# --- memory ---------------------------------------------------------------------------------------


class MemoryIntruder(Intruder):
    """A hostile client on the memory carrier, without our connection state machine."""

    inbox_bytes = 0

    def __init__(self) -> None:
        super().__init__()
        self.wire = MemoryWire()

    def write(self, data: bytes, *, stream: int = CONTROL_STREAM, end: bool = False) -> None:
        """Send bytes on a stream; ``end`` is ignored: the memory carrier cannot end one stream."""
        self.wire.write(stream, data)

    # the memory wire calls these methods

    def data(self, stream: int, data: bytes) -> None:
        """Receive the bytes that the server wrote."""
        self._came(stream, data)

    def lost(self, code: str = "", message: str = "") -> None:
        """Record that the server closed the connection."""
        self._over(End(code, message))

    def written(self) -> None:
        """Do nothing: this client does not need to know when the server has taken a frame."""


def memory_intruder(network: MemoryNetwork, address: str, me: Identity) -> MemoryIntruder:
    """Connect to a memory server as this identity; raise Refused when the server refuses it."""
    server = network.at(address)
    server._admit(me)
    intruder, far = MemoryIntruder(), MemoryWire()
    intruder.wire.other, far.other = far, intruder.wire
    intruder.wire.link = intruder  # type: ignore[assignment]  # it has all that a wire calls
    far.link = memory._link(Side.ACCEPTED, server.carrier, me, far)
    server.open_links.welcome(far.link, server)
    return intruder


# `Ground` gives tests the same interface on every carrier.


@dataclass(frozen=True)
class Ground:
    """One carrier for a test: it can dial, serve at ``address``, and send hostile bytes.

    ``carrier`` returns this carrier with a certificate of the given identity.
    """

    carrier: Callable[[Identity], Carrier]
    address: str
    intruder: Callable[[str, Identity], AbstractAsyncContextManager[Intruder]]
    """Opens a hostile client at an address, with a valid certificate of this identity."""


def memory_ground(_: Path, limits: Limits | None = None) -> Ground:
    """The test environment on the memory carrier: client and server are in this process."""
    network = MemoryNetwork()

    @asynccontextmanager
    async def intruder(address: str, me: Identity) -> AsyncIterator[Intruder]:
        opened = memory_intruder(network, address, me)
        yield opened
        opened.wire.hang_up("", "")

    return Ground(lambda me: MemoryCarrier(network, me, limits=limits), "here:0", intruder)


def quic_ground(directory: Path, limits: Limits | None = None) -> Ground:
    """The test environment on QUIC, with real sockets and certificates."""
    place = Installation(directory / "certs", limits or Limits(), scheme="quic")

    @asynccontextmanager
    async def intruder(address: str, me: Identity) -> AsyncIterator[Intruder]:
        async with quic_intruder(address, credentials(place.authority, me)) as opened:
            yield opened

    return Ground(place.carrier, "127.0.0.1:0", intruder)
