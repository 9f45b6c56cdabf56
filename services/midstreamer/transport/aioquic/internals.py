"""Every private member of aioquic that is touched, and nothing else.

All of it was read in the one version named below, and `selftest` proves at each start that the
part security rests on still works.  A new version means: read these names again, then change
the pin.  What each is for stands beside it.
"""

# ruff: noqa: SLF001 - this module is the exception, so that no other needs to be one

from __future__ import annotations

import logging
from collections.abc import Callable

import aioquic
from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # it is re-exported all the same
from aioquic.quic.connection import QuicConnection, QuicNetworkPath
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicPacketBuilderStop

from midstreamer.domain.errors import ConfigError
from midstreamer.security.chain import Presented

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


def unacknowledged_bytes(connection: QuicConnection) -> int:
    """Bytes written to streams that the peer has not acknowledged; aioquic bounds them nowhere."""
    return sum(
        stream.sender._buffer_stop - stream.sender._buffer_start
        for stream in connection._streams.values()
    )
