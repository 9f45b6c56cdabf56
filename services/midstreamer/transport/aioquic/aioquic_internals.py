"""All uses of private members of aioquic, except those in `transport.aioquic.stream_receiver`.

That module extends a class of aioquic and uses private attributes of this class.  The code here
depends on `VERSION` of aioquic, and `selftest` checks at each start that the part needed for
security still works.  Before you change `VERSION`, read how the new version of aioquic uses the
private members that occur here.
"""

# ruff: noqa: SLF001 - only this module may use private members

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import aioquic
from aioquic import tls
from aioquic.buffer import Buffer, BufferReadError  # type: ignore[attr-defined]  # it is re-exported all the same
from aioquic.quic.congestion.base import K_INITIAL_WINDOW
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionState,
    QuicNetworkPath,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import (
    QuicFrameType,
    QuicPacketType,
    pull_quic_transport_parameters,
)
from aioquic.quic.packet_builder import (
    QuicPacketBuilder,
    QuicPacketBuilderStop,
    QuicSentPacket,
)
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from midstreamer.domain.errors import ConfigError
from midstreamer.security.certificate_chain import Presented
from midstreamer.security.refusal_reasons import Reason
from midstreamer.transport.aioquic.stream_receiver import CryptoReceiver, Receiver

# Our own logs name the peer and the reason; other messages of aioquic do not help our users.
logging.getLogger("quic").setLevel(logging.CRITICAL)

VERSION = "1.7.2"

ACK_DELAY_S = 0.02
"""Seconds by which an acknowledgement may be delayed, so that it shares the packet of an answer.
aioquic delays by only 1 ms, so most acknowledgements would need a packet of their own. (The delay
announced to the peer is 25 ms.)"""


def require_version() -> None:
    """Raise ConfigError unless the installed aioquic has exactly the version `VERSION`."""
    if aioquic.__version__ != VERSION:
        raise ConfigError(
            f"aioquic {aioquic.__version__} is installed, exactly {VERSION} is needed:"
            f" pip install aioquic=={VERSION}"
        )


def on_tls(connection: QuicConnection, prepare: Callable[[tls.Context], None]) -> None:
    """Call ``prepare`` with each TLS context that the connection makes, before it is used."""
    initialize = connection._initialize

    def prepared(peer_cid: bytes) -> None:
        initialize(peer_cid)
        prepare(connection.tls)

    connection._initialize = prepared  # type: ignore[method-assign]


def require_client_certificate(context: tls.Context, judge: Callable[[Presented], None]) -> None:
    """Make a server demand a certificate from the client and call ``judge`` on it.

    ``judge`` is called after the client has proven that it owns the certificate's key, or at once
    if there is no certificate.  aioquic itself only requests a certificate: it would accept a
    client without a certificate, or with a certificate of any authority.
    """
    context._request_client_certificate = True
    take, verify = context._server_handle_certificate, context._server_handle_certificate_verify

    def taken(input_buf: Buffer) -> None:
        take(input_buf)
        if context._peer_certificate is None:
            judge(Presented(None))

    def verified(input_buf: Buffer) -> None:
        verify(input_buf)
        judge(_presented(context))

    context._server_handle_certificate = taken  # type: ignore[method-assign]
    context._server_handle_certificate_verify = verified  # type: ignore[method-assign]


def judge_server_certificate(context: tls.Context, judge: Callable[[Presented], None]) -> None:
    """Arrange that this client calls ``judge`` on the server's certificate.

    ``judge`` is called after the server has proven that it owns the certificate's key.
    """
    verify = context._client_handle_certificate_verify

    def verified(input_buf: Buffer) -> None:
        verify(input_buf)
        judge(_presented(context))

    context._client_handle_certificate_verify = verified  # type: ignore[method-assign]


def refuse_unreadable_certificates(context: tls.Context) -> None:
    """Raise a TLS alert whenever a certificate cannot be read, whatever the error is.

    The same is done when the proof that the peer owns the certificate's key cannot be read.
    aioquic expects only ValueError.  `cryptography` raises other errors too, for example for an
    unknown certificate version.  Without this function `receive_datagram` would raise them.
    """
    for name in (
        "_server_handle_certificate",
        "_server_handle_certificate_verify",
        "_client_handle_certificate",
        "_client_handle_certificate_verify",
    ):
        setattr(context, name, _or_alert(getattr(context, name)))


def _or_alert(handle: Callable[[Buffer], None]) -> Callable[[Buffer], None]:
    def handled(input_buf: Buffer) -> None:
        try:
            handle(input_buf)
        except (tls.Alert, BufferReadError):
            raise  # The caller of this function in aioquic raises an alert for BufferReadError.
        except Exception as error:
            raise tls.AlertBadCertificate(f"{Reason.UNREADABLE}: it is no certificate") from error

    return handled


def _presented(context: tls.Context) -> Presented:
    return Presented(context._peer_certificate, tuple(context._peer_certificate_chain))


def delay_acknowledgements(connection: QuicConnection) -> None:
    """Make acknowledgements wait up to `ACK_DELAY_S` for a packet with data."""
    connection._ack_delay = ACK_DELAY_S


def acknowledge(connection: QuicConnection, now_s: float, *, waited_s: float = 0.0) -> bool:
    """Let the next packet carry the acknowledgement that waits to be sent.

    Do nothing, and return False, if none has waited for at least ``waited_s`` seconds.
    aioquic itself adds an acknowledgement to data only when the acknowledgement is due.  Without
    this function most acknowledgements would need a packet of their own.
    """
    space = connection._spaces.get(tls.Epoch.ONE_RTT)
    if space is None or space.ack_at is None or space.ack_at - ACK_DELAY_S + waited_s > now_s:
        return False
    space.ack_at = now_s
    return True


def idle(connection: QuicConnection) -> tuple[float, float]:
    """Return (time at which the idle timeout ends the connection, length of that timeout in s).

    The timeout is the smaller limit of both sides.  `ends_at` says which packets restart it.
    """
    assert connection._close_at is not None, "the connection has begun"  # noqa: S101
    return connection._close_at, connection._idle_timeout()


def ends_at(connection: QuicConnection) -> float | None:
    """Return the time at which the idle timeout ends the connection.

    Each received packet that was decrypted moves this time.  The first packet that is sent after
    such a packet moves this time too (RFC 9000, section 10.1).  So this time does not show when a
    packet was last received.
    """
    return connection._close_at


def stop_when_all_is_written(connection: QuicConnection) -> None:
    """Make aioquic build no further packet after the one that took the last stream data.

    aioquic itself would build one more packet, find nothing to send and drop it, which costs time.
    Frames without stream data, such as acknowledgements, are in the first packet already.  There is
    one exception: after a stream has ended, aioquic sends MAX_STREAMS in one more packet.  This
    does not matter, because our streams end only with their connection.
    """
    write = connection._write_application

    def written(builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        start = builder.start_packet

        def next_packet(packet_type: QuicPacketType, crypto: CryptoPair) -> None:
            if builder._packet is not None and not has_something_to_send(connection):
                raise QuicPacketBuilderStop
            start(packet_type, crypto)

        builder.start_packet = next_packet  # type: ignore[method-assign]
        try:
            write(builder, network_path, now)
        finally:
            del builder.start_packet  # else each send leaves a reference cycle

    connection._write_application = written  # type: ignore[method-assign]


def has_something_to_send(connection: QuicConnection) -> bool:
    """Whether new or lost stream data must be sent. Other frames may wait for `ACK_DELAY_S`."""
    if not connection._handshake_confirmed:
        return True
    # Handshake streams of earlier TLS epochs may keep unsent data for ever: check only 1-RTT.
    senders = [connection._crypto_streams[tls.Epoch.ONE_RTT].sender]
    senders += [stream.sender for stream in connection._streams.values()]
    for sender in senders:
        if not sender.buffer_is_empty:
            if len(sender._pending) or sender._pending_eof:
                return True
            # No data is left.  aioquic would set this only when it next looks for data to send.
            sender.buffer_is_empty = True
    return False


def close_event(connection: QuicConnection) -> ConnectionTerminated | None:
    """Return why the connection closes. aioquic's public event comes three probe timeouts later."""
    return connection._close_event


def has_begun(connection: QuicConnection) -> bool:
    """Whether the connection has an address to send to. Before that, no packet can be built."""
    return bool(connection._network_paths)


def is_ending(connection: QuicConnection) -> bool:
    """Whether the closing period has begun. The connection's timer fires when the period ends."""
    return connection._state in END_STATES


def unacknowledged_bytes(connection: QuicConnection) -> int:
    """Return the bytes written to streams and not acknowledged. aioquic does not limit them."""
    return sum(
        stream.sender._buffer_stop - stream.sender._buffer_start
        for stream in connection._streams.values()
    )


def respect_datagram_size(connection: QuicConnection) -> None:
    """Send no datagram larger than the peer's ``max_udp_payload_size`` (RFC 9000, section 18.2).

    aioquic reads this parameter and ignores it.  It arrives before any large datagram is sent: a
    server gets it in the client's first message, and a client's own first packets are small.
    """
    parse = connection._parse_transport_parameters

    def parsed(data: bytes, from_session_ticket: bool = False) -> None:
        parse(data, from_session_ticket)
        most = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if most is not None and most < connection._max_datagram_size:
            connection._max_datagram_size = most
            connection._loss._pacer._max_datagram_size = most
            control = connection._loss._cc
            control._max_datagram_size = most  # type: ignore[attr-defined]  # of its subclasses
            control.congestion_window = min(control.congestion_window, K_INITIAL_WINDOW * most)

    connection._parse_transport_parameters = parsed  # type: ignore[method-assign]


# --- measurements -------------------------------------------------------------------------------


def packets_sent(connection: QuicConnection) -> int:
    """Return the number of sent packets, which is the number that aioquic gives to the next packet.

    The count restarts at 0 if the server asks for another QUIC version.
    """
    return connection._packet_number


def on_lost(connection: QuicConnection, lost: Callable[[int, bool], None]) -> None:
    """Call ``lost(count, is_probe)`` each time ``count`` packets must be sent again.

    In a probe (RFC 9002, section 6.2.4), these packets are perhaps not lost but only late.
    """
    declare = connection._loss._on_packets_lost

    def declared(
        *, packets: Collection[QuicSentPacket], congestion_event: bool = True, **given: Any
    ) -> None:
        declare(packets=packets, congestion_event=congestion_event, **given)
        if packets:
            lost(len(packets), not congestion_event)

    connection._loss._on_packets_lost = declared  # type: ignore[method-assign,assignment]


def round_trip_s(connection: QuicConnection) -> float | None:
    """Return the smoothed round-trip time in seconds; None before the first acknowledgement."""
    loss = connection._loss
    return loss._rtt_smoothed if loss._rtt_initialized else None


def congestion_window(connection: QuicConnection) -> int:
    """Return the congestion window in bytes: the most that may be in flight."""
    return connection._loss.congestion_window


def bytes_in_flight(connection: QuicConnection) -> int:
    """Return the bytes that are sent and neither acknowledged nor lost."""
    return connection._loss.bytes_in_flight


# --- the code below limits the received data of a connection --------------------------------------


class Streams(dict[int, QuicStream]):
    """The streams of a connection, by id. Each stream that aioquic adds gets our `Receiver`."""

    def __setitem__(self, number: int, stream: QuicStream) -> None:
        stream.receiver = Receiver(number, readable=not stream.receiver.is_finished)
        super().__setitem__(number, stream)


def hold_little(connection: QuicConnection, *, crypto_bytes_max: int) -> None:
    """Make a new connection use our receivers, which need little memory for bytes out of order."""
    connection._streams = Streams()
    initialize = connection._initialize

    def initialized(peer_cid: bytes) -> None:
        initialize(peer_cid)  # makes new `_crypto_streams`; after a Retry it runs again
        receivers: list[CryptoReceiver] = []
        for stream in connection._crypto_streams.values():
            receivers.append(CryptoReceiver(receivers, crypto_bytes_max))
            stream.receiver = receivers[-1]

    connection._initialize = initialized  # type: ignore[method-assign]


def handshake_bytes(connection: QuicConnection) -> int:
    """Return an upper bound of the handshake bytes in memory: the number received so far."""
    receivers = [stream.receiver for stream in connection._crypto_streams.values()]
    return sum(each.held_bytes for each in receivers if isinstance(each, Receiver))


def limit_streams(connection: QuicConnection, *, bidirectional: int) -> None:
    """Limit the streams that the peer may open: ``bidirectional`` ones, and none in one direction.

    aioquic itself would allow 128 streams of each kind.
    """
    for limit, value in (
        (connection._local_max_streams_bidi, bidirectional),
        (connection._local_max_streams_uni, 0),
    ):
        limit.value = limit.sent = value


def allow_by_consumption(
    connection: QuicConnection, *, window: Callable[[int], int], streams: int
) -> None:
    """Derive the flow-control limits from the bytes that this side has consumed.

    When ``consumed`` bytes of a stream have been passed on in order, the peer may send up to byte
    ``consumed + window(consumed)`` of the stream.  All streams together have the limit
    ``consumed + streams * window(consumed)``, where ``consumed`` counts the bytes of all streams.
    A limit is raised each time half of its window has been consumed.
    (aioquic itself would double a limit when half of it has arrived, even out of order and unread.)
    """
    total, total_at = connection._local_max_data, 0

    def stream_limits(
        builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        receiver: Receiver = stream.receiver  # type: ignore[assignment]  # `Streams` put it there
        consumed = receiver._buffer_start
        # A limit of 0 means that the peer must not send on this stream: leave it at 0.
        if consumed >= receiver.announce_at and stream.max_stream_data_local:
            size = window(consumed)
            receiver.announce_at = consumed + size // 2
            stream.max_stream_data_local = consumed + size
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            frame = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=connection._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            frame.push_uint_var(stream.stream_id or 0)
            frame.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def connection_limits(builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        # The sum below counts only open streams.  That is enough: none of our streams ends before
        # its connection.
        nonlocal total_at
        # Only received bytes can be consumed; their number is `total.used`.  While it is below
        # `total_at`, the consumed bytes are too, so the costly sum is skipped.
        if total.used >= total_at:
            consumed = sum(s.receiver._buffer_start for s in connection._streams.values())
            if consumed >= total_at:
                size = streams * window(consumed)
                total_at = consumed + size // 2
                total.value = consumed + size
        if total.sent != total.value:
            frame = builder.start_frame(
                QuicFrameType.MAX_DATA,
                capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                handler=connection._on_connection_limit_delivery,
                handler_args=(total,),
            )
            frame.push_uint_var(total.value)
            total.sent = total.value

    connection._write_stream_limits = stream_limits  # type: ignore[method-assign]
    connection._write_connection_limits = connection_limits  # type: ignore[method-assign]


def release(connection: QuicConnection) -> None:
    """Free the memory that a connection does not need in or after its closing period.

    A connection refers to itself in dozens of bound methods, so only the garbage collector would
    free it.  Under a flood of handshakes one collection took 280 ms, for 100,000 objects.  The
    attributes kept are those that `get_timer`, `handle_timer`, `next_event`, `datagrams_to_send`
    and `packets_sent` read later.
    """
    attributes = vars(connection)
    for stream in connection._crypto_streams.values():
        if isinstance(stream.receiver, CryptoReceiver):
            stream.receiver.leave()
    if (context := attributes.get("tls")) is not None:  # None: not begun yet
        vars(context).clear()
    for name in attributes.keys() - _KEPT_AT_THE_END:
        del attributes[name]
    connection._streams, connection._crypto_streams, connection._spaces = {}, {}, {}
    if connection._state not in END_STATES:
        connection._state = QuicConnectionState.TERMINATED


_KEPT_AT_THE_END = frozenset(
    {
        "_state", "_close_at", "_close_event", "_close_pending", "_events", "_network_paths",
        "_handshake_confirmed", "_is_client", "_configuration", "_logger", "_quic_logger",
        "_packet_number",
    }
)  # fmt: skip
