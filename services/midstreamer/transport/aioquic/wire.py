"""One QUIC connection as a wire of `transport.framed`: datagrams in, streams out, timers kept.

Nothing that the event loop or an owner calls here raises.  Whatever fails - in aioquic, in the
owner, in the link - closes the connection: the peer is told where that still works, the link and
the owner learn that it is over, and its numbers are given back at the end of the closing period,
or at once where that could not begin.

The clock is `time.monotonic` and not the loop's, whose resolution is 1 ms on some loops and makes
aioquic pace one packet a millisecond.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode

from midstreamer.telemetry import logs, metrics
from midstreamer.transport import phrases
from midstreamer.transport.address import Scheme
from midstreamer.transport.aioquic import enforcement, internals
from midstreamer.transport.aioquic.traffic import SAMPLE_S, TRAFFIC
from midstreamer.transport.framed import FramedLink
from midstreamer.transport.hosts import SocketAddress

log = logs.get(__name__)

HANDSHAKE_FAILED = "handshake_failed"
APPLICATION_ERROR = 1
FAILED = "this side failed"
KEY_UPDATE_PACKETS = 1 << 22
"""AES-GCM keys must be replaced before 2^23 packets (RFC 9001, section 6.6); this is half."""
ACK_AT_ONCE_PACKETS = 8
"""So many datagrams in one turn mean that the peer sends much and waits to be acknowledged."""
ALONG_S = internals.ACK_DELAY_S / 2
"""An acknowledgement that has waited so long leaves with what is said; where none did so within
the whole delay, any does: with the answer, where little is asked. Sooner, more packets carry one,
and have it to write and to read; later, what is said every 11 ms would come too early for it, and
the next time too late."""


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

    scheme = Scheme.QUIC

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
        self._packets_counted = 0
        self._sampled_s = float("-inf")
        self._pings = 0
        self._heard_s = time.monotonic()
        self.over = False
        """Nothing more will be said, and what still comes is dropped."""
        self._closing = False
        self._stopped = False
        internals.delay_acknowledgements(quic)
        internals.stop_when_all_is_written(quic)
        internals.on_lost(quic, _lost)

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
        reason = phrases.coded(code, message)
        error = APPLICATION_ERROR if code else QuicErrorCode.NO_ERROR
        self._end(error, reason, "", "")

    def taken(self) -> None:
        """Nothing to do: QUIC's own flow control counts what left, not what was read."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes written that the other side has not acknowledged."""
        return internals.unacknowledged_bytes(self.quic)

    @property
    def silent_s(self) -> float:
        """Seconds since a packet of the peer came."""
        return time.monotonic() - self._heard_s

    @property
    def handshake_bytes(self) -> int:
        """Bytes of handshake messages received, which are held while the peer is not judged."""
        return internals.handshake_bytes(self.quic)

    # --- what the owner calls ---

    def datagram(self, data: bytes, address: SocketAddress) -> None:
        """A datagram came for this connection."""
        if self.over:
            # aioquic would read on until the closing packet is built: a peer that was refused
            # could still complete its handshake.
            return
        self._datagrams_since_flush += 1
        try:
            now, ends_s = time.monotonic(), internals.ends_at(self.quic)
            self.quic.receive_datagram(data, address, now=now)
            if internals.ends_at(self.quic) != ends_s:
                self._heard_s = now
            self._take_events()
        except Exception as error:
            self._fail("datagram", error)

    def settle(self) -> None:
        """All that had come was read: answer now what cannot wait for the application's words."""
        if not self._datagrams_since_flush or self._stopped:
            return  # the application has spoken, and all that had to be said went along
        much_came = self._datagrams_since_flush >= ACK_AT_ONCE_PACKETS
        try:
            if much_came or self.over or internals.has_something_to_send(self.quic):
                self._send(written=False)
            else:
                self._set_timer(time.monotonic())
        except Exception as error:
            self._fail("settle", error)

    def flush(self, *, written: bool = False) -> None:
        """Send what is to be sent, and set the timer; ``written`` says that data is among it."""
        try:
            self._send(written=written)
        except Exception as error:
            self._fail("flush", error)

    def _send(self, *, written: bool) -> None:
        if self._stopped:
            return  # where closing failed, aioquic would go on as if nothing had happened
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
        if now - self._sampled_s >= SAMPLE_S and self.link is not None:
            self._sample(now)
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
        try:
            ends_s, idle_s = internals.idle(self.quic)
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
        """Give the connection up for a reason of this side; the peer is told that it is over."""
        self._end(QuicErrorCode.NO_ERROR, "", code, message)

    def stop(self) -> None:
        """Cancel every timer; nothing more is sent."""
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
        closing = internals.close_event(self.quic)
        if closing is not None and not self.over:
            self._send(written=False)  # what we close for; an owner may give its socket back
            self._finish(*why(closing))
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

    # --- ends ---

    def _fail(self, where: str, error: Exception) -> None:
        """An exception was met: close, or stop at once when that was what failed."""
        log.error("wire.failed", where=where, exc_info=error)
        if self.over:
            self._forget()
        else:
            self._end(QuicErrorCode.INTERNAL_ERROR, FAILED, "", FAILED)

    def _end(self, error: int, reason: str, code: str, message: str) -> None:
        """Tell the peer ``error`` and ``reason``, and this side ``code`` and ``message``."""
        if self.over or self._closing:
            return  # sending may fail, and whoever learns of that gives the connection up
        self._closing = True
        said = self._say_goodbye(error, phrases.cut(reason, enforcement.REASON_BYTES_MAX))
        self._finish(code, message)
        if not said:
            self._forget()

    def _say_goodbye(self, error: int, reason: str) -> bool:
        """Send what waits and then CONNECTION_CLOSE; whether the closing period has begun."""
        if not internals.has_begun(self.quic):
            return False
        for closing in (False, True):  # closing drops what is unsent, and the Refusal is
            try:
                if closing:
                    self.quic.close(error_code=error, reason_phrase=reason)
                self._send(written=False)
            except Exception:
                log.exception("wire.failed", where="closing")
        return internals.is_ending(self.quic)

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
            if internals.is_ending(self.quic):
                internals.release(self.quic)
            self._owner.ended(self, code, message)
        except Exception as error:
            self._fail("end", error)

    def _forget(self) -> None:
        """Nothing more comes and no timer is left: the owner drops everything."""
        self.stop()
        try:
            internals.release(self.quic)
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
                return  # it fires in time; setting it anew for every packet would cost more
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
                self._set_timer(now)  # what it was set for is done: packets came since
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
        number = internals.packets_sent(self.quic)
        TRAFFIC.packets_sent += max(0, number - self._packets_counted)
        self._packets_counted = number

    def _sample(self, now: float) -> None:
        round_trip_s = None if self.over else internals.round_trip_s(self.quic)
        if round_trip_s is not None:
            self._sampled_s = now
            metrics.QUIC_RTT_S.observe(round_trip_s)


def _lost(packets: int, probed: bool) -> None:
    if probed:
        TRAFFIC.packets_probed += packets
    else:
        TRAFFIC.packets_lost += packets


def why(event: events.ConnectionTerminated) -> tuple[str, str]:
    """Code and message of an end: ours when the peer spoke of one, else in the library's words."""
    in_tls = QuicErrorCode.CRYPTO_ERROR <= event.error_code < QuicErrorCode.CRYPTO_ERROR + 256
    coded = phrases.read(event.reason_phrase)
    if coded and (in_tls or event.frame_type is None):
        return coded
    if in_tls:
        return HANDSHAKE_FAILED, event.reason_phrase or f"TLS alert {event.error_code & 0xFF}"
    return "", event.reason_phrase or "the peer closed"
