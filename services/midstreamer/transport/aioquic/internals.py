"""Every private member of aioquic that is touched, and nothing else.

`receiving` besides uses the private attributes of the aioquic class that it extends.  All of it
was read in the one version named below, and `selftest` proves at each start that the part
security rests on still works.  A new version means: read these names again, then change the pin.
"""

# ruff: noqa: SLF001 - this module is the exception, so that no other needs to be one

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
from midstreamer.security.chain import Presented
from midstreamer.security.reasons import Reason
from midstreamer.transport.aioquic.receiving import CryptoReceiver, Receiver

# What it says of peers is said by us, with who and why; the rest is of use to its authors.
logging.getLogger("quic").setLevel(logging.CRITICAL)

VERSION = "1.7.2"

ACK_DELAY_S = 0.02
"""aioquic acknowledges after 1 ms in a packet of its own; up to the 25 ms it promises the peer,
waiting lets most acknowledgements ride on answers: fewer packets, and packets are the cost."""


def require_version() -> None:
    """Refuse another version than the one whose internals are known."""
    if aioquic.__version__ != VERSION:
        raise ConfigError(
            f"aioquic {aioquic.__version__} is installed, exactly {VERSION} is needed:"
            f" pip install aioquic=={VERSION}"
        )


def on_tls(connection: QuicConnection, prepare: Callable[[tls.Context], None]) -> None:
    """Prepare each TLS context a connection makes; it makes them when packets come."""
    initialize = connection._initialize

    def prepared(peer_cid: bytes) -> None:
        initialize(peer_cid)
        prepare(connection.tls)

    connection._initialize = prepared  # type: ignore[method-assign]


def require_client_certificate(context: tls.Context, judge: Callable[[Presented], None]) -> None:
    """Have a server ask for a certificate, and judge it as soon as possession is proven.

    The flag alone only asks: an empty answer and a certificate of anybody pass.
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
    """Have a client judge its server's certificate as soon as possession is proven."""
    verify = context._client_handle_certificate_verify

    def verified(input_buf: Buffer) -> None:
        verify(input_buf)
        judge(_presented(context))

    context._client_handle_certificate_verify = verified  # type: ignore[method-assign]


def refuse_unreadable_certificates(context: tls.Context) -> None:
    """Answer a certificate or a proof of its key that cannot be read with an alert.

    aioquic foresees ValueError alone; `cryptography` raises others too, as for a certificate of an
    unknown version.  Without this they would pass through `receive_datagram`.
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
        except (tls.Alert, BufferReadError):  # aioquic turns the second into an alert itself
            raise
        except Exception as error:
            raise tls.AlertBadCertificate(f"{Reason.UNREADABLE}: it is no certificate") from error

    return handled


def _presented(context: tls.Context) -> Presented:
    return Presented(context._peer_certificate, tuple(context._peer_certificate_chain))


def delay_acknowledgements(connection: QuicConnection) -> None:
    """Let acknowledgements wait for an answer to ride on."""
    connection._ack_delay = ACK_DELAY_S


def acknowledge(connection: QuicConnection, now_s: float, *, waited_s: float = 0.0) -> bool:
    """Acknowledge with the next packet what has waited so long; whether there is any.

    aioquic puts an acknowledgement beside data only when it is due: without this, each is a
    packet of its own in the end.
    """
    space = connection._spaces.get(tls.Epoch.ONE_RTT)
    if space is None or space.ack_at is None or space.ack_at - ACK_DELAY_S + waited_s > now_s:
        return False
    space.ack_at = now_s
    return True


def idle(connection: QuicConnection) -> tuple[float, float]:
    """(when it ends unless the peer is heard before, how long that is after it was heard last).

    Both sides' limits count, the smaller one; only what could be deciphered was heard.
    """
    assert connection._close_at is not None, "it has begun"  # noqa: S101
    return connection._close_at, connection._idle_timeout()


def ends_at(connection: QuicConnection) -> float | None:
    """When it ends unless the peer is heard; receiving moves it only for what was deciphered.

    Sending moves it too, once after each time that the peer was heard: so this does not tell when
    that was (RFC 9000, section 10.1).
    """
    return connection._close_at


def stop_when_all_is_written(connection: QuicConnection) -> None:
    """Build no packet after the one that took all there was.

    aioquic goes on until a packet stays empty, and looks through everything once more for it.
    Only streams can need a second packet; MAX_STREAMS for a stream that was ended would wait, and
    no stream is ended here before its connection is.
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
            del builder.start_packet  # else each send leaves a cycle for the garbage collector

    connection._write_application = written  # type: ignore[method-assign]


def has_something_to_send(connection: QuicConnection) -> bool:
    """Whether stream data waits, new or lost; what else may wait can do so for ACK_DELAY_S."""
    if not connection._handshake_confirmed:
        return True
    # What handshakes before this epoch left unsent stays there for good.
    senders = [connection._crypto_streams[tls.Epoch.ONE_RTT].sender]
    senders += [stream.sender for stream in connection._streams.values()]
    for sender in senders:
        if not sender.buffer_is_empty:
            if len(sender._pending) or sender._pending_eof:
                return True
            sender.buffer_is_empty = True  # aioquic learns it by asking in vain
    return False


def close_event(connection: QuicConnection) -> ConnectionTerminated | None:
    """Why it is closing; the public event comes only after a pause of three probe timeouts."""
    return connection._close_event


def has_begun(connection: QuicConnection) -> bool:
    """Whether it knows where to send; building a packet before that is an error."""
    return bool(connection._network_paths)


def is_ending(connection: QuicConnection) -> bool:
    """Whether its closing period has begun, at whose end its timer reports that it is over."""
    return connection._state in END_STATES


def unacknowledged_bytes(connection: QuicConnection) -> int:
    """Bytes written to streams that the peer has not acknowledged; aioquic bounds them nowhere."""
    return sum(
        stream.sender._buffer_stop - stream.sender._buffer_start
        for stream in connection._streams.values()
    )


def respect_datagram_size(connection: QuicConnection) -> None:
    """Send no datagram larger than the peer's ``max_udp_payload_size`` (RFC 9000, section 18.2).

    aioquic checks that parameter and then forgets it.  It comes before anything is sent that could
    be too large: with the first message of a client, and a client's own first packets are small.
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


# --- what is measured ---------------------------------------------------------------------------


def packets_sent(connection: QuicConnection) -> int:
    """Packets it has sent: their number counts them, in all spaces together.

    It begins anew when the server asks for another version.
    """
    return connection._packet_number


def on_lost(connection: QuicConnection, lost: Callable[[int, bool], None]) -> None:
    """Call this with how many packets are sent again, and whether only a probe sends them.

    A probe (RFC 9002, section 6.2.4) repeats what was not acknowledged in time and may have come.
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
    """The smoothed round-trip time in seconds; None before the first acknowledgement."""
    loss = connection._loss
    return loss._rtt_smoothed if loss._rtt_initialized else None


def congestion_window(connection: QuicConnection) -> int:
    """Bytes that may be under way."""
    return connection._loss.congestion_window


def bytes_in_flight(connection: QuicConnection) -> int:
    """Bytes that are."""
    return connection._loss.bytes_in_flight


# --- what is held of what came --------------------------------------------------------------------


class Streams(dict[int, QuicStream]):
    """The streams of a connection; each gets our receiver when aioquic puts it here."""

    def __setitem__(self, number: int, stream: QuicStream) -> None:
        stream.receiver = Receiver(number, readable=not stream.receiver.is_finished)
        super().__setitem__(number, stream)


def hold_little(connection: QuicConnection, *, crypto_bytes_max: int) -> None:
    """Have a connection that has not begun hold what came early at its cost, and bounded."""
    connection._streams = Streams()
    initialize = connection._initialize

    def initialized(peer_cid: bytes) -> None:
        initialize(peer_cid)  # again after a Retry, with new streams
        receivers: list[CryptoReceiver] = []
        for stream in connection._crypto_streams.values():
            receivers.append(CryptoReceiver(receivers, crypto_bytes_max))
            stream.receiver = receivers[-1]

    connection._initialize = initialized  # type: ignore[method-assign]


def handshake_bytes(connection: QuicConnection) -> int:
    """Bytes of handshake messages that came; TLS holds them until a message is complete."""
    receivers = [stream.receiver for stream in connection._crypto_streams.values()]
    return sum(each.held_bytes for each in receivers if isinstance(each, Receiver))


def limit_streams(connection: QuicConnection, *, bidirectional: int) -> None:
    """Let the peer open so many streams, and none of one direction; aioquic allows 128 of each."""
    for limit, value in (
        (connection._local_max_streams_bidi, bidirectional),
        (connection._local_max_streams_uni, 0),
    ):
        limit.value = limit.sent = value


def allow_by_consumption(
    connection: QuicConnection, *, window: Callable[[int], int], streams: int
) -> None:
    """Give flow control by what was consumed: ``window(consumed)`` bytes beyond that on a stream.

    aioquic doubles its limits when half of them was received, though it be out of order and
    nothing was read.  The connection's limit is that of so many streams.  It announces again when
    half of a window was read, and in the packets that are sent anyway, as aioquic does.
    """
    total, total_at = connection._local_max_data, 0

    def stream_limits(
        builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        receiver: Receiver = stream.receiver  # type: ignore[assignment]  # `Streams` put it there
        consumed = receiver._buffer_start
        if consumed >= receiver.announce_at and stream.max_stream_data_local:  # it may be sent on
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
        # No streams are given back: one that ended ends its connection.
        nonlocal total_at
        if total.used >= total_at:  # and what was consumed may be as well; nearly always it is not
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
    """Drop all that a connection in or after its closing period no longer uses.

    A connection refers to itself by dozens of bound methods, so the garbage collector alone would
    free it.  Under a flood of handshakes that took 280 ms at a time, with 100,000 objects each.
    Kept is what `get_timer`, `handle_timer`, `next_event`, `datagrams_to_send` and `packets_sent`
    read then.
    """
    attributes = vars(connection)
    for stream in connection._crypto_streams.values():
        if isinstance(stream.receiver, CryptoReceiver):
            stream.receiver.leave()
    if (context := attributes.get("tls")) is not None:  # made with the first packet
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
