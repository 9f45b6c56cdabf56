"""`QuicWire`: a QUIC connection as a wire of `transport.framed_link`, with datagrams and timers.

Methods called by the event loop or by the owner never raise.  Any error, in aioquic, in the owner
or in the link, closes the connection.  The peer is sent the reason if that still works, and link
and owner are called back.  The connection ids are released at the end of the closing period, or at
once if that period could not begin.

The clock is `time.monotonic`.  The clock of some event loops has a resolution of 1 ms, with which
aioquic would send only one packet per millisecond.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode

from midstreamer.telemetry import logs, metrics
from midstreamer.transport import close_reasons
from midstreamer.transport.address import Scheme
from midstreamer.transport.aioquic import aioquic_internals, mutual_tls
from midstreamer.transport.aioquic.traffic import SAMPLE_S, TRAFFIC
from midstreamer.transport.framed_link import FramedLink
from midstreamer.transport.hosts import SocketAddress

log = logs.get(__name__)

HANDSHAKE_FAILED = "handshake_failed"
APPLICATION_ERROR = 1
FAILED = "this side failed"
KEY_UPDATE_PACKETS = 1 << 22
"""Packets after which the AES-GCM keys are updated: half of the 2^23 packets that RFC 9001, section
6.6, allows."""
ACK_AT_ONCE_PACKETS = 8
"""If at least this many datagrams are received in one turn of the event loop, they are acknowledged
at once. A peer that sends so much waits for the acknowledgement."""
ACK_PIGGYBACK_S = aioquic_internals.ACK_DELAY_S / 2
"""Seconds that an acknowledgement must have waited before it is added to a packet with data.

With a smaller value, more packets would carry an acknowledgement, which costs time.  With a larger
value, more packets with data would be sent without the acknowledgement that waits.  It may become
due before the next packet with data, and then it needs a packet of its own.

There is one exception: if no acknowledgement was added to a packet with data for
`aioquic_internals.ACK_DELAY_S`, one is added even if it has waited for less than this value."""


class Owner(Protocol):
    """Owner of QUIC connections. A server owns many, a dialled link owns one."""

    def send(self, data: bytes, address: SocketAddress) -> None:
        """Send a datagram to an address."""

    def established(self, wire: QuicWire) -> FramedLink:
        """Return a new link for the wire. The TLS handshake is complete and the peer verified."""

    def numbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Route datagrams with this connection id to this wire."""

    def unnumbered(self, wire: QuicWire, connection_id: bytes) -> None:
        """Stop routing datagrams with this connection id to this wire."""

    def ended(self, wire: QuicWire, code: str, message: str) -> None:
        """Handle the end of the connection. Late datagrams for the wire may still arrive."""

    def forgotten(self, wire: QuicWire) -> None:
        """Drop all state of the wire: its closing period is over, or could not begin."""


class QuicWire:
    """Runs one aioquic connection on the event loop. Its owner passes datagrams to it."""

    scheme = Scheme.QUIC

    def __init__(self, quic: QuicConnection, owner: Owner) -> None:
        self.quic = quic
        self.link: FramedLink | None = None
        """The link of the connection. None until the peer was verified."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._flush: asyncio.Handle | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._datagrams_since_flush = 0
        self._along_s = float("-inf")
        self._packets_since_key = 0
        self._packets_counted = 0
        self._sampled_s = float("-inf")
        self._pings = 0
        self._heard_s = time.monotonic()
        self.over = False
        """True: the connection has ended or is closing. Datagrams that still arrive are dropped."""
        self._closing = False
        self._stopped = False
        aioquic_internals.delay_acknowledgements(quic)
        aioquic_internals.stop_when_all_is_written(quic)
        aioquic_internals.on_lost(quic, _lost)

    # --- Wire ---

    def write(self, stream: int, data: bytes, *, flush: bool = False) -> None:
        """Send bytes on a stream, in order: now if ``flush``, else at the end of this loop turn."""
        self.quic.send_stream_data(stream, data)
        if flush:
            self.flush(written=True)
        elif self._flush is None:
            self._flush = self._loop.call_soon(self.flush)

    def hang_up(self, code: str, message: str) -> None:
        """Close the connection, and send the reason to the peer."""
        reason = close_reasons.coded(code, message)
        error = APPLICATION_ERROR if code else QuicErrorCode.NO_ERROR
        self._end(error, reason, "", "")

    def consumed(self) -> None:
        """Do nothing: flow control depends on bytes passed to the link, not on frames taken."""

    @property
    def unsent_bytes(self) -> int:
        """Written bytes that the peer has not acknowledged."""
        return aioquic_internals.unacknowledged_bytes(self.quic)

    @property
    def silent_s(self) -> float:
        """Seconds since a packet of the peer arrived."""
        return time.monotonic() - self._heard_s

    @property
    def handshake_bytes(self) -> int:
        """Upper bound of the handshake bytes in memory: the number received so far."""
        return aioquic_internals.handshake_bytes(self.quic)

    # --- the owner calls the following methods ---

    def datagram(self, data: bytes, address: SocketAddress) -> None:
        """Handle a datagram that was received for this connection."""
        if self.over:
            # Drop the datagram.  aioquic processes datagrams until it has built the closing packet.
            # So, with this datagram, a refused peer could still complete its handshake.
            return
        self._datagrams_since_flush += 1
        try:
            now, ends_s = time.monotonic(), aioquic_internals.ends_at(self.quic)
            self.quic.receive_datagram(data, address, now=now)
            if aioquic_internals.ends_at(self.quic) != ends_s:
                self._heard_s = now
            self._take_events()
        except Exception as error:
            self._fail("datagram", error)

    def settle(self) -> None:
        """Send waiting data after a batch of datagrams was received.

        If at least `ACK_AT_ONCE_PACKETS` datagrams were received, they are acknowledged now.  If
        fewer were received, they are acknowledged later, so that the acknowledgement can share a
        packet with data.
        """
        if not self._datagrams_since_flush or self._stopped:
            # Nothing is left to do. Either the connection is stopped, or `_send` has run since the
            # last datagram arrived: it has acknowledged this datagram, or set the timer for that.
            return
        many = self._datagrams_since_flush >= ACK_AT_ONCE_PACKETS
        try:
            if many or self.over or aioquic_internals.has_something_to_send(self.quic):
                self._send(written=False)
            else:
                self._set_timer(time.monotonic())
        except Exception as error:
            self._fail("settle", error)

    def flush(self, *, written: bool = False) -> None:
        """Send all waiting packets and set the timer. ``written``: the link has written data."""
        try:
            self._send(written=written)
        except Exception as error:
            self._fail("flush", error)

    def _send(self, *, written: bool) -> None:
        if self._stopped:
            # If closing has failed, aioquic may still have packets to send.  Do not send them.
            return
        now = time.monotonic()
        if self._flush is not None:
            self._flush.cancel()
            self._flush, written = None, True
        if self._datagrams_since_flush >= ACK_AT_ONCE_PACKETS:
            aioquic_internals.acknowledge(self.quic, now)
        elif written:
            self._acknowledge_along(now)
        self._datagrams_since_flush = 0
        sent = self.quic.datagrams_to_send(now=now)
        for data, address in sent:
            self._owner.send(data, address)
        self._count_packets(len(sent))
        if now - self._sampled_s >= SAMPLE_S and self.link is not None:
            self._sample(now)
        self._set_timer(now)

    def _acknowledge_along(self, now: float) -> None:
        seldom = now - self._along_s >= aioquic_internals.ACK_DELAY_S
        if aioquic_internals.acknowledge(
            self.quic, now, waited_s=0.0 if seldom else ACK_PIGGYBACK_S
        ):
            self._along_s = now

    def keep_alive(self) -> None:
        """Send a ping each time the peer was silent for a third of the idle timeout.

        Without pings a quiet connection would time out.  While packets of the peer arrive, no ping
        is sent.
        """
        if self.over:
            return
        try:
            ends_s, idle_s = aioquic_internals.idle(self.quic)
            left_s = ends_s - idle_s * 2 / 3 - time.monotonic()
            if left_s <= 0:
                self._pings += 1
                self.quic.send_ping(self._pings)
                self._send(written=False)
                left_s = idle_s / 3
            self._keepalive = self._loop.call_later(left_s, self.keep_alive)
        except Exception as error:
            self._fail("keepalive", error)

    def abandon(self, code: str, message: str) -> None:
        """Close the connection. Our link gets ``code`` and ``message``; the peer gets no reason."""
        self._end(QuicErrorCode.NO_ERROR, "", code, message)

    def stop(self) -> None:
        """Cancel every timer and send nothing more."""
        self.over = self._stopped = True
        TRAFFIC.ended(self.quic)
        for handle in (self._timer, self._flush, self._keepalive):
            if handle is not None:
                handle.cancel()

    # --- events ---

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case events.StreamDataReceived(data, end_stream, stream_id):
                    self._stream_data(stream_id, data, end_stream)
                case events.HandshakeCompleted() if not self.over:
                    TRAFFIC.began(self.quic)
                    self.link = self._owner.established(self)
                case events.ConnectionIdIssued(connection_id):
                    self._owner.numbered(self, connection_id)
                case events.ConnectionIdRetired(connection_id):
                    self._owner.unnumbered(self, connection_id)
                case events.StreamReset() | events.StopSendingReceived():
                    self._broken("a stream was reset")
                case events.ConnectionTerminated():
                    self._finish(*why(event))
                    self._forget()
        closing = aioquic_internals.close_event(self.quic)
        if closing is not None and not self.over:
            self._send(written=False)  # send the reason first: `ended` may close the socket
            self._finish(*why(closing))
        elif self.link is not None:
            self.link.written()

    def _stream_data(self, stream: int, data: bytes, end: bool) -> None:
        # Without a link the peer was not verified, and its data is dropped.
        if self.link is not None:
            self.link.data(stream, data)
            if end:
                self._broken("a stream was ended")

    def _broken(self, message: str) -> None:
        if self.link is not None and not self.over:
            self.link.lost("", message)

    # --- ends ---

    def _fail(self, where: str, error: Exception) -> None:
        """Log an exception and close the connection, or stop at once if closing has failed."""
        log.error("wire.failed", where=where, exc_info=error)
        if self.over:
            self._forget()
        else:
            self._end(QuicErrorCode.INTERNAL_ERROR, FAILED, "", FAILED)

    def _end(self, error: int, reason: str, code: str, message: str) -> None:
        """Close the connection.

        The peer gets ``error`` and ``reason``.  Our own link gets ``code`` and ``message``.
        """
        if self.over or self._closing:
            return  # already closing: a send that fails meanwhile calls this method again
        self._closing = True
        ending = self._say_goodbye(error, close_reasons.cut(reason, mutual_tls.REASON_BYTES_MAX))
        self._finish(code, message)
        if not ending:
            self._forget()

    def _say_goodbye(self, error: int, reason: str) -> bool:
        """Send waiting data and CONNECTION_CLOSE. Return whether the closing period has begun."""
        if not aioquic_internals.has_begun(self.quic):
            return False
        # First send waiting data, then close: `close` would discard a Refusal that is not sent yet.
        for closing in (False, True):
            try:
                if closing:
                    self.quic.close(error_code=error, reason_phrase=reason)
                self._send(written=False)
            except Exception:
                log.exception("wire.failed", where="closing")
        return aioquic_internals.is_ending(self.quic)

    def _finish(self, code: str, message: str) -> None:
        if self.over:
            return
        self.over = True
        TRAFFIC.ended(self.quic)
        if self._keepalive is not None:
            self._keepalive.cancel()
        try:
            if self.link is not None:
                self.link.lost(code, message)
            if aioquic_internals.is_ending(self.quic):
                aioquic_internals.release(self.quic)
            self._owner.ended(self, code, message)
        except Exception as error:
            self._fail("end", error)

    def _forget(self) -> None:
        """Stop all timers, free the memory, and let the owner drop this wire."""
        self.stop()
        try:
            aioquic_internals.release(self.quic)
            self._owner.forgotten(self)
        except Exception:
            log.exception("wire.failed", where="forgetting")

    # --- timers and counters ---

    def _set_timer(self, now: float) -> None:
        due_s = self.quic.get_timer()
        if due_s is None or self._stopped:
            return
        if self._timer is not None:
            if self._timer_s <= due_s:
                return  # the timer fires early enough; a new one per packet would cost more
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = self._loop.call_later(max(0.0, due_s - now), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        try:
            due_s, now = self.quic.get_timer(), time.monotonic()
            if due_s is None:
                return
            if due_s > now:
                self._set_timer(now)  # packets have moved the deadline since the timer was set
                return
            self.quic.handle_timer(now=now)
            self._take_events()
            self._send(written=False)
        except Exception as error:
            self._fail("timer", error)

    def _count_packets(self, count: int) -> None:
        self._packets_since_key += count
        if self._packets_since_key >= KEY_UPDATE_PACKETS:
            self._packets_since_key = 0
            self.quic.request_key_update()
        number = aioquic_internals.packets_sent(self.quic)
        TRAFFIC.packets_sent += max(0, number - self._packets_counted)
        self._packets_counted = number

    def _sample(self, now: float) -> None:
        round_trip_s = None if self.over else aioquic_internals.round_trip_s(self.quic)
        if round_trip_s is not None:
            self._sampled_s = now
            metrics.QUIC_RTT_S.observe(round_trip_s)


def _lost(packets: int, probed: bool) -> None:
    if probed:
        TRAFFIC.packets_probed += packets
    else:
        TRAFFIC.packets_lost += packets


def why(event: events.ConnectionTerminated) -> tuple[str, str]:
    """Return the code and message with which a connection was closed.

    If the peer did not send a code and message of our protocol, they are made from aioquic's event.
    """
    in_tls = QuicErrorCode.CRYPTO_ERROR <= event.error_code < QuicErrorCode.CRYPTO_ERROR + 256
    coded = close_reasons.read(event.reason_phrase)
    if coded and (in_tls or event.frame_type is None):
        return coded
    if in_tls:
        return HANDSHAKE_FAILED, event.reason_phrase or f"TLS alert {event.error_code & 0xFF}"
    return "", event.reason_phrase or "the peer closed"
