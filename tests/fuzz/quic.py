"""Fuzz targets behind QUIC's encryption: QUIC frames, TLS messages and certificates.

Datagrams are ciphertext, so a fuzzer of datagrams would only test the cipher. These targets encrypt
their input with the peer's keys and give the packet to a connection that is configured like those
of our server. aioquic may close the connection for any input, but it must not raise an exception,
because that would reach the last error handler of `transport.aioquic.wire`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # it is re-exported all the same
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from midstreamer.domain import identity
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.security import certificate_chain
from midstreamer.security.authority import Authority, establish
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.security.credentials import Credentials
from midstreamer.transport.aioquic import mutual_tls
from midstreamer.transport.carrier import Limits

DOMAIN = "fuzz.invalid"
NEAR, FAR = ("192.0.2.1", 1), ("192.0.2.2", 2)
ROUNDS = 12
PAYLOAD_BYTES_MAX = 1100
"""Payload limit in bytes: a packet of this size, with all headers, fits the smallest datagram."""

NOW_S = time.time()
AUTHORITY = establish(DOMAIN, now_s=NOW_S, days=1)


def _credentials(signer: Authority, kind: Kind) -> Credentials:
    who = identity.make(DOMAIN, kind, "x")
    issued = signer.certify(who, now_s=NOW_S, days=1)
    return Credentials(who, issued.certificate, (), issued.key, (signer.certificate,))


CLIENT, SERVER = (_credentials(AUTHORITY, kind) for kind in (Kind.CLIENT, Kind.COORDINATOR))


def _judge(presented: Presented) -> None:
    certificate_chain.identify(presented, CLIENT.anchors, Role.DIALS, NOW_S)


def _accept_server(presented: Presented) -> None:
    certificate_chain.identify(presented, SERVER.anchors, Role.SERVES, NOW_S)


def _server(original_cid: bytes) -> QuicConnection:
    server = QuicConnection(
        configuration=mutual_tls.configuration(SERVER, Limits(), is_client=False),
        original_destination_connection_id=original_cid,
    )
    mutual_tls.enforce(server, _judge)
    return server


def _client() -> QuicConnection:
    client = QuicConnection(
        configuration=mutual_tls.configuration(CLIENT, Limits(), is_client=True)
    )
    mutual_tls.enforce(client, _accept_server)
    client.connect(FAR, now=time.monotonic())
    return client


# The next targets send packets of an accepted peer.


@dataclass
class Established:
    """A client and a server that have finished their handshake."""

    near: QuicConnection = field(default_factory=_client)
    number: int = 1000
    """Number of the next packet, far above the packet numbers of the handshake."""

    def __post_init__(self) -> None:
        self.far = _server(self.near.original_destination_connection_id)
        for _ in range(ROUNDS):
            now = time.monotonic()
            for data, _ in self.near.datagrams_to_send(now=now):
                self.far.receive_datagram(data, NEAR, now=now)
            for data, _ in self.far.datagrams_to_send(now=now):
                self.near.receive_datagram(data, FAR, now=now)

    @property
    def over(self) -> bool:
        """Whether the server has closed the connection to the client."""
        return self.far._close_event is not None or self.far._close_pending

    def give(self, payload: bytes) -> None:
        """Let the server read one packet with these frames and prepare its answer.

        The answer is not delivered to the client.
        """
        self.number += 1
        head = b"\x41" + self.far.host_cid + (self.number & 0xFFFF).to_bytes(2, "big")
        keys = self.near._cryptos[tls.Epoch.ONE_RTT]
        packet = keys.encrypt_packet(head, payload, self.number)
        now = time.monotonic()
        self.far.receive_datagram(packet, NEAR, now=now)
        while self.far.next_event() is not None:
            pass
        self.far.datagrams_to_send(now=now)


_pair: list[Established] = []


def take_packet(data: bytes) -> None:
    """The server reads a packet of frames from an accepted peer, or closes the connection."""
    if not _pair or _pair[0].over or _pair[0].number > 30_000:
        _pair[:] = [Established()]
    payload = data[:PAYLOAD_BYTES_MAX]
    # Header protection needs at least 4 bytes, so a shorter payload is padded.
    _pair[0].give(payload + bytes(max(0, 4 - len(payload))))


def packet_seeds() -> list[bytes]:
    """Return payloads with each frame type that a peer may send."""
    stream = b"\x0e\x00\x00\x05" + b"\x00\x00\x00\x01x"
    return [
        b"\x01",  # PING
        b"\x02\x10\x00\x00\x10",  # ACK
        b"\x04\x00\x00\x00",  # RESET_STREAM
        b"\x05\x00\x00",  # STOP_SENDING
        b"\x06\x00\x04abcd",  # CRYPTO
        stream,
        b"\x0e\x04\x80\x7f\xff\xff\x01x",  # STREAM with one byte at a far offset
        b"\x10\x44\x00",  # MAX_DATA
        b"\x11\x00\x44\x00",  # MAX_STREAM_DATA
        b"\x18\x07\x00\x08" + bytes(8) + bytes(16),  # NEW_CONNECTION_ID
        b"\x19\x00",  # RETIRE_CONNECTION_ID
        b"\x1a" + bytes(8),  # PATH_CHALLENGE
        b"\x1c\x00\x00\x00",  # CONNECTION_CLOSE
        b"\x01" + stream + b"\x02\x10\x00\x00\x10",
    ]


# The next targets send packets of a peer that is not accepted yet.

_CID = bytes(range(8))


def _keys(*, is_client: bool) -> CryptoPair:
    pair = CryptoPair()
    pair.setup_initial(cid=_CID, is_client=is_client, version=QuicProtocolVersion.VERSION_1)
    return pair


def _initial(payload: bytes) -> bytes:
    """Return a client's first packet with these frames, padded to a whole datagram."""
    room = SMALLEST_MAX_DATAGRAM_SIZE - 64
    payload = payload[:room] + bytes(max(0, room - len(payload)))
    length = 0x4000 | (len(payload) + 2 + 16)
    head = b"\xc1" + (1).to_bytes(4, "big") + bytes([8]) + _CID + b"\x00\x00"
    head += length.to_bytes(2, "big") + b"\x00\x01"
    packet: bytes = _keys(is_client=True).encrypt_packet(head, payload, 1)
    return packet + bytes(max(0, SMALLEST_MAX_DATAGRAM_SIZE - len(packet)))


def _hello() -> bytes:
    """Return the first TLS message of our client."""
    context = tls.Context(is_client=True, alpn_protocols=["midstreamer/1"])
    context.handshake_extensions.append((tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS, b""))
    output = {epoch: Buffer(capacity=4096) for epoch in tls.Epoch}
    context.handle_message(b"", output)
    return bytes(output[tls.Epoch.INITIAL].data)


def take_handshake(data: bytes) -> None:
    """The server answers an unknown client's packet and TLS messages, or closes the connection."""
    if data[:1] == b"\x01":
        _take_flight(data[1:])
        return
    now = time.monotonic()
    server = _server(_CID)
    server.receive_datagram(_initial(data[1:]), NEAR, now=now)
    while server.next_event() is not None:
        pass
    server.datagrams_to_send(now=now)


def _take_flight(messages: bytes) -> None:
    """Give a server the TLS messages that a client sends after handshake keys exist."""
    server = _server(_CID)
    server._version = QuicProtocolVersion.VERSION_1
    server._initialize(_CID)
    context = server.tls
    output = {epoch: Buffer(capacity=16384) for epoch in tls.Epoch}
    context.alpn_negotiated = None
    # aioquic's ALPN callback would read the transport parameters, which are empty in `_HELLO`.
    context.alpn_cb = None
    context.handle_message(_HELLO, output)
    before = context.state
    assert before is tls.State.SERVER_EXPECT_CERTIFICATE, before
    try:
        context.handle_message(messages, output)
    except tls.Alert:
        return
    after: tls.State = context.state
    assert after is not tls.State.SERVER_POST_HANDSHAKE, (
        "a client without a certificate was accepted"
    )


_HELLO = _hello()


def handshake_seeds() -> list[bytes]:
    """Return seeds of both kinds that `take_handshake` accepts.

    Some are QUIC frames for a client's first packet, the others TLS messages with a certificate.
    """
    size = len(_HELLO)
    crypto = b"\x06\x00" + (0x4000 | size).to_bytes(2, "big") + _HELLO
    der = CLIENT.certificate.public_bytes(Encoding.DER)
    entry = len(der).to_bytes(3, "big") + der + b"\x00\x00"
    body = b"\x00" + len(entry).to_bytes(3, "big") + entry
    certificate = b"\x0b" + len(body).to_bytes(3, "big") + body
    far = b"\x06\x80\x07\xff\xff\x04abcd"
    verify = b"\x0f\x00\x00\x08\x04\x03\x00\x04abcd"
    return [b"\x00" + crypto, b"\x00" + far, b"\x01" + certificate, b"\x01" + certificate + verify]


def take_certificate(data: bytes) -> None:
    """The identity in a certificate is read, or the certificate is refused with a named reason."""
    try:
        leaf = x509.load_der_x509_certificate(data)
    except (ValueError, x509.InvalidVersion):
        return
    for role in Role:
        try:
            certificate_chain.identify(Presented(leaf), CLIENT.anchors, role, NOW_S)
        except MidstreamerError:
            pass


def certificate_seeds() -> list[bytes]:
    """Return seeds: certificates of a client, a server and an authority."""
    certificates = [CLIENT.certificate, SERVER.certificate, AUTHORITY.certificate]
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]
