"""One QUIC connection as a wire of `transport.framed`: datagrams in, streams out, timers kept.

The clock is `time.monotonic` and not the loop's, whose resolution is 1 ms on some loops and makes
aioquic pace one packet a millisecond.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Protocol

from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode

from midstreamer.telemetry import logs
from midstreamer.transport.aioquic import enforcement, internals
from midstreamer.transport.aioquic.sockets import SocketAddress
from midstreamer.transport.framed import FramedLink

log = logs.get(__name__)

HANDSHAKE_FAILED = "handshake_failed"
APPLICATION_ERROR = 1
KEY_UPDATE_PACKETS = 1 << 22
"""AES-GCM keys must be replaced before 2^23 packets (RFC 9001, section 6.6); this is half."""
ACK_AT_ONCE_PACKETS = 8
"""So many datagrams in one turn mean that the peer sends much and waits to be acknowledged."""
ALONG_S = internals.ACK_DELAY_S / 2
"""An acknowledgement that has waited so long leaves with what is said; where none did so within
the whole delay, any does: with the answer, where little is asked. Sooner, more packets carry one,
and have it to write and to read; later, what is said every 11 ms would come too early for it, and
the next time too late."""

_CODED = re.compile(r"(?P<code>[a-z_]{3,40}): (?P<message>.*)", re.DOTALL)


class Owner(Protocol):
    """Who holds wires: a server many, a dialled link one."""

    def send(self, data: bytes, address: SocketAddress) -> None:
        """Send a datagram."""

    def established(self, wire: QuicWire) -> FramedLink:
        """The handshake of TLS is done and the peer was judged: make its link."""

    def numbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Datagrams with this number are for this wire."""

    def unnumbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """And no longer."""

    def ended(self, wire: QuicWire, code: str, message: str) -> None:
        """Nothing more will be said; late datagrams may still come."""

    def forgotten(self, wire: QuicWire) -> None:
        """Nor will anything more come."""


class QuicWire:
    """The shell of one QuicConnection; its owner routes datagrams to it."""

    def __init__(self, quic: QuicConnection, owner: Owner) -> None:
        self.quic = quic
        self.link: FramedLink | None = None
        """There once the peer has been judged."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._flush: asyncio.Handle | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._datagrams_since_flush = 0
        self._along_s = float("-inf")
        self._packets_since_key = 0
        self._pings = 0
        self.over = False
        """Nothing more will be said."""
        self._stopped = False
        internals.delay_acknowledgements(quic)
        internals.stop_when_all_is_written(quic)

    # --- Wire ---

    def write(self, stream: int, data: bytes, *, at_once: bool = False) -> None:
        """Send bytes on a stream, in order; what one turn of the loop writes leaves together."""
        self.quic.send_stream_data(stream, data)
        if at_once:
            self.flush(written=True)
        elif self._flush is None:
            self._flush = self._loop.call_soon(self.flush)

    def hang_up(self, code: str, message: str) -> None:
        """End the connection, telling the peer why."""
        if self.over:
            return
        self.flush()  # closing drops what is unsent, and the Refusal is
        reason = enforcement.phrase(f"{code}: {message}") if code else ""
        error = APPLICATION_ERROR if code else QuicErrorCode.NO_ERROR
        self.quic.close(error_code=error, reason_phrase=reason)
        self.flush()
        self._finish("", "")

    def taken(self) -> None:
        """Nothing to do: QUIC's own flow control counts what left, not what was read."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes written that the other side has not acknowledged."""
        return internals.unacknowledged_bytes(self.quic)

    # --- what the owner calls ---

    def datagram(self, data: bytes, address: SocketAddress) -> None:
        """A datagram came for this connection."""
        self._datagrams_since_flush += 1
        try:
            self.quic.receive_datagram(data, address, now=time.monotonic())
            self._take_events()
        except Exception:  # one peer's packet must not end what serves the others
            log.exception("datagram.failed", bytes=len(data))
            self.abandon("", "a packet could not be read")

    def settle(self) -> None:
        """All that had come was read: answer now what cannot wait for the application's words."""
        if not self._datagrams_since_flush:
            return  # the application has spoken, and all that had to be said went along
        much_came = self._datagrams_since_flush >= ACK_AT_ONCE_PACKETS
        if much_came or self.over or internals.has_something_to_send(self.quic):
            self.flush()
        else:
            self._set_timer(time.monotonic())

    def flush(self, *, written: bool = False) -> None:
        """Send what is to be sent, and set the timer; ``written`` says that data is among it."""
        now = time.monotonic()
        if self._flush is not None:
            self._flush.cancel()
            self._flush, written = None, True
        if self._datagrams_since_flush >= ACK_AT_ONCE_PACKETS:
            internals.acknowledge(self.quic, now)
        elif written:
            self._acknowledge_along(now)
        self._datagrams_since_flush = 0
        sent = self.quic.datagrams_to_send(now=now)
        for data, address in sent:
            self._owner.send(data, address)
        self._count_packets(len(sent))
        self._set_timer(now)

    def _acknowledge_along(self, now: float) -> None:
        seldom = now - self._along_s >= internals.ACK_DELAY_S
        if internals.acknowledge(self.quic, now, waited_s=0.0 if seldom else ALONG_S):
            self._along_s = now

    def keep_alive(self) -> None:
        """Ping after each third of the idle period without a word from the peer.

        So a dead peer is noticed, a quiet one is not lost, and a busy one is not asked.
        """
        if self.over:
            return
        ends_s, idle_s = internals.idle(self.quic)
        left_s = ends_s - idle_s * 2 / 3 - time.monotonic()
        if left_s <= 0:
            self._pings += 1
            self.quic.send_ping(self._pings)
            self.flush()
            left_s = idle_s / 3
        self._keepalive = self._loop.call_later(left_s, self.keep_alive)

    def abandon(self, code: str, message: str) -> None:
        """Give the connection up: nobody answers."""
        self._finish(code, message)

    def stop(self) -> None:
        """Cancel every timer; nothing more is sent."""
        self.over = self._stopped = True
        for handle in (self._timer, self._flush, self._keepalive):
            if handle is not None:
                handle.cancel()

    # --- events ---

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case events.StreamDataReceived(data, end_stream, stream_id):
                    self._stream_data(stream_id, data, end_stream)
                case events.HandshakeCompleted():
                    self.link = self._owner.established(self)
                case events.ConnectionIdIssued(connection_id):
                    self._owner.numbered(self, connection_id)
                case events.ConnectionIdRetired(connection_id):
                    self._owner.unnumbered(self, connection_id)
                case events.StreamReset() | events.StopSendingReceived():
                    self._broken("a stream was reset")
                case events.ConnectionTerminated():
                    self._finish(*_why(event))
                    self.stop()
                    self._owner.forgotten(self)
        closing = internals.close_event(self.quic)
        if closing is not None and not self.over:
            self._finish(*_why(closing))
        elif self.link is not None:
            self.link.written()

    def _stream_data(self, stream: int, data: bytes, end: bool) -> None:
        # No link, no data: a peer that was not judged has nobody to talk to.
        if self.link is not None:
            self.link.data(stream, data)
            if end:
                self._broken("a stream was ended")

    def _broken(self, message: str) -> None:
        if self.link is not None and not self.over:
            self.link.lost("", message)

    def _finish(self, code: str, message: str) -> None:
        if self.over:
            return
        self.over = True
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self.link is not None:
            self.link.lost(code, message)
        self._owner.ended(self, code, message)

    # --- timers and counters ---

    def _set_timer(self, now: float) -> None:
        due_s = self.quic.get_timer()
        if due_s is None or self._stopped:
            return
        if self._timer is not None:
            if self._timer_s <= due_s:
                return  # it fires in time; setting it anew for every packet would cost more
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = self._loop.call_later(max(0.0, due_s - now), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        due_s, now = self.quic.get_timer(), time.monotonic()
        if due_s is None:
            return
        if due_s > now:
            self._set_timer(now)  # what it was set for is done: packets came since
            return
        self.quic.handle_timer(now=now)
        self._take_events()
        self.flush()

    def _count_packets(self, count: int) -> None:
        self._packets_since_key += count
        if self._packets_since_key >= KEY_UPDATE_PACKETS:
            self._packets_since_key = 0
            self.quic.request_key_update()


def _why(event: events.ConnectionTerminated) -> tuple[str, str]:
    """Code and message of an end: ours when the peer spoke of one, else in the library's words."""
    in_tls = QuicErrorCode.CRYPTO_ERROR <= event.error_code < QuicErrorCode.CRYPTO_ERROR + 256
    coded = _CODED.fullmatch(event.reason_phrase)
    if coded and (in_tls or event.frame_type is None):
        return coded["code"], coded["message"]
    if in_tls:
        return HANDSHAKE_FAILED, event.reason_phrase or f"TLS alert {event.error_code & 0xFF}"
    return "", event.reason_phrase or "the peer closed"
