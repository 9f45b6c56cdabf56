"""The client side of one connection, without I/O.

It takes received datagrams and the time. It returns the datagrams to send, and the results of
requests.

`Machine` combines three parts, as the carrier on asyncio does: aioquic's QuicConnection with our
verification of the server (`transport.aioquic.mutual_tls`), the state machine of a connection
(`protocol.connection`), and the state machine of its requests (`protocol.link_exchange`).  The
caller needs no event loop; `loadtests.gevent_link` runs it under gevent.

How to use `Machine`: call ``start``.  Then call ``datagram`` for each datagram that arrives, and
``wake`` at the time of ``next_wakeup_s``.  Call ``ask`` and ``close`` at any time.  After each of
these calls, send the datagrams that ``outgoing`` returns, and then look at ``opened``, ``ended``
and ``news``.
"""

from __future__ import annotations

import collections
import math
from dataclasses import dataclass

from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode

from midstreamer.domain.errors import LinkClosed, MidstreamerError, Overloaded
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import request_states
from midstreamer.protocol.connection import Connection, Side
from midstreamer.protocol.connection_effects import Deliver, Effect, Finish, Opened, Transmit
from midstreamer.protocol.frames import Answer, Frame, Request
from midstreamer.protocol.link_exchange import Exchange
from midstreamer.runtime.link_requests import BULK
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.transport import close_reasons
from midstreamer.transport.aioquic import aioquic_internals, mutual_tls, sockets
from midstreamer.transport.aioquic.wire import APPLICATION_ERROR, KEY_UPDATE_PACKETS, why
from midstreamer.transport.framed_link import opening_error
from midstreamer.transport.hosts import SocketAddress
from midstreamer.transport.trust import Trust

RETRY_AFTER_S = 0.05
"""Seconds to wait after `Overloaded` before the refused frame is sent again.

`Machine` refuses to send a frame while too many bytes of the connection are unsent.
"""


@dataclass(frozen=True)
class Figures:
    """Measurements of the transport for one connection."""

    rtt_s: float
    lost_packets: int
    window_bytes: int
    """Congestion window of the connection, in bytes."""


class Machine:
    """One connection to a server whose identity must be of the kind ``expect``."""

    def __init__(self, trust: Trust, place: SocketAddress, expect: Kind) -> None:
        self._trust, self._place, self._kinds = trust, place, frozenset({expect})
        self.quic = QuicConnection(
            configuration=mutual_tls.configuration(
                trust.current,
                trust.limits,
                is_client=True,
                datagram_bytes=sockets.datagram_bytes(place),
            )
        )
        mutual_tls.enforce(self.quic, self._judge)
        aioquic_internals.delay_acknowledgements(self.quic)
        aioquic_internals.stop_when_all_is_written(self.quic)
        self._lost_packets = 0
        aioquic_internals.on_lost(self.quic, self._count_lost)
        self.peer: Identity | None = None
        self.connection: Connection | None = None
        self.exchange: Exchange | None = None
        self.opened = False
        self.ended: MidstreamerError | None = None
        """The reason why the connection ended; None while it has not ended."""
        self.inbox: collections.deque[Deliver] = collections.deque()
        """Received frames that `receive` has not returned yet.

        After `talk` no frame is added: then the `Exchange` takes the received frames.
        """
        self._inbox_bytes = 0
        self._news: list[request_states.Effect] = []
        self._packets = 0
        self._pings = 0
        self._idle_from_s = 0.0
        self._goodbye = ("", "")
        """Code and message that the peer gets at the end; empty if the peer ended the connection.
        """

    # --- The code that has the socket, such as `GeventLink`, calls the methods below. ---

    def start(self, now_s: float) -> None:
        """Start the QUIC handshake."""
        self.quic.connect(self._place, now=now_s)

    def datagram(self, data: bytes, now_s: float) -> None:
        """Process a datagram that arrived."""
        if self.ended is not None:
            return
        ends_s = aioquic_internals.ends_at(self.quic)
        self.quic.receive_datagram(data, self._place, now=now_s)
        if aioquic_internals.ends_at(self.quic) != ends_s:
            self._idle_from_s = now_s
        self._take_events(now_s)

    def wake(self, now_s: float) -> None:
        """Handle every timer that is due; QUIC, connection, requests and ping have timers."""
        if self.ended is not None:
            return
        due_s = self.quic.get_timer()
        if due_s is not None and due_s <= now_s:
            self.quic.handle_timer(now=now_s)
            self._take_events(now_s)
        if self.connection is not None:
            self._carry_out(self.connection.tick(now_s), now_s)
        if self.exchange is not None:
            self._do(self.exchange.tick(now_s))
        if self.opened and not self.over and now_s >= self._ping_s():
            self._pings += 1
            self._idle_from_s = now_s
            self.quic.send_ping(self._pings)

    def next_wakeup_s(self) -> float:
        """Return the time at which to call `wake`; infinity if no timer is set."""
        if self.ended is not None:
            return math.inf
        times = [self.quic.get_timer()]
        if self.connection is not None:
            times.append(self.connection.next_wakeup_s())
        if self.exchange is not None:
            times += [self.exchange.next_wakeup_s(), self._ping_s()]
        return min((each for each in times if each is not None), default=math.inf)

    @property
    def over(self) -> bool:
        """Whether the connection has ended."""
        return self.ended is not None

    @property
    def must_answer(self) -> bool:
        """Whether datagrams must be sent at once.

        This is so when the connection has ended, when stream data waits to be sent, and until the
        handshake is confirmed.
        """
        return self.ended is not None or aioquic_internals.has_something_to_send(self.quic)

    @property
    def draining(self) -> bool:
        """Whether the peer wants no more requests on this link."""
        return self.exchange is not None and self.exchange.heard

    def outgoing(self, now_s: float, *, spoken: bool = False) -> list[bytes]:
        """Return the datagrams to send now.

        Acknowledgements of received packets may wait for a short time. If ``spoken`` is true, they
        are sent now, so that they can share a packet with our data.
        """
        if spoken:
            aioquic_internals.acknowledge(self.quic, now_s)
        sent = self.quic.datagrams_to_send(now=now_s)
        self._packets += len(sent)
        if self._packets >= KEY_UPDATE_PACKETS:
            self._packets = 0
            self.quic.request_key_update()
        return [data for data, _ in sent]

    def ask(self, frame: Request, now_s: float, *, budget_s: float) -> int:
        """Send a request and return its number, by which `news` names its result.

        Raise LinkClosed if the connection has ended, Overloaded if too many bytes are unsent.
        """
        if self.ended is not None or self.exchange is None:
            raise self._closed()
        request = self.exchange.ask(frame, now_s, budget_s=budget_s)
        try:
            self.send(request, now_s, bulk=type(request) in BULK)
        except MidstreamerError:
            self._do(self.exchange.leave(request.request, sent=False))
            raise
        return request.request

    def send(self, frame: Frame, now_s: float, *, bulk: bool = False) -> None:
        """Send a frame.

        If ``bulk`` is true, the frame may be large. It then uses the second stream, so that small
        frames need not wait for it.

        Raise LinkClosed if the connection has ended, Overloaded if too many bytes are unsent.
        """
        if self.ended is not None or self.connection is None:
            raise self._closed()
        unsent, most = self.unsent_bytes, self._trust.limits.send_high_bytes
        if unsent > most:
            raise Overloaded(
                f"{unsent:,} bytes are unsent, more than send_high_bytes={most:,}: retry later",
                retry_after_s=RETRY_AFTER_S,
            )
        self._carry_out(self.connection.send(frame, bulk=bulk), now_s)

    def news(self) -> list[request_states.Effect]:
        """Return the results of requests since the last call, as effects Resolve and Fail."""
        results, self._news = self._news, []
        return results

    def receive(self) -> Frame | None:
        """Return the next received frame, or None; raise LinkClosed after the last one."""
        if self.inbox:
            taken = self.inbox.popleft()
            self._inbox_bytes -= taken.size
            return taken.frame
        if self.ended is not None:
            raise self._closed()
        return None

    def talk(self, now_s: float) -> None:
        """Allow requests: from now on received frames go to the `Exchange`, not to `receive`."""
        if self.connection is not None:
            self.exchange = Exchange(
                self._trust.me, self.connection.peer, self.connection.peer_capabilities
            )
            while self.inbox:
                self._do(self.exchange.take(self.inbox.popleft().frame, now_s))

    def close(self, now_s: float, code: str = "", message: str = "") -> None:
        """End the connection; the peer gets code and message. A second call does nothing."""
        if self.ended is not None:
            return
        if self.connection is not None:
            self._carry_out(self.connection.close(code, message), now_s)
        if self.ended is None:
            self._end("", "closed", by_peer=False)

    def give_up(self, message: str) -> None:
        """End the connection without sending anything, because the peer cannot be reached."""
        self._end("", message, by_peer=True)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and that the peer has not acknowledged."""
        held = self.connection.held_bytes if self.connection is not None else 0
        return held if self.ended else held + aioquic_internals.unacknowledged_bytes(self.quic)

    def figures(self) -> Figures | None:
        """Return the measurements of the transport; None if the connection has ended."""
        if self.ended is not None:
            return None
        return Figures(
            aioquic_internals.round_trip_s(self.quic) or 0.0,
            self._lost_packets,
            aioquic_internals.congestion_window(self.quic),
        )

    def farewell(self, now_s: float) -> list[bytes]:
        """Return the last datagrams: unsent data, and the QUIC frame that ends the connection."""
        if not aioquic_internals.has_begun(self.quic):
            return []
        if aioquic_internals.is_ending(self.quic):
            return self.outgoing(now_s)
        last = self.outgoing(now_s)
        code, message = self._goodbye
        reason = close_reasons.cut(close_reasons.coded(code, message), mutual_tls.REASON_BYTES_MAX)
        error = APPLICATION_ERROR if code else QuicErrorCode.NO_ERROR
        self.quic.close(error_code=error, reason_phrase=reason)
        return last + self.outgoing(now_s)

    def release(self) -> None:
        """Free the resources of the QUIC connection; no other method may be called afterwards."""
        aioquic_internals.release(self.quic)

    # --- inside ---

    def _judge(self, presented: Presented) -> None:
        self.peer = self._trust.judge(presented, Role.SERVES, self._kinds).identity

    def _take_events(self, now_s: float) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case events.StreamDataReceived(data, end_stream, stream_id):
                    self._stream_data(stream_id, data, now_s)
                    if end_stream:
                        self._lost("", "a stream was ended", now_s)
                case events.HandshakeCompleted() if self.peer is not None:
                    self.connection = self._trust.connection(Side.DIALLED, self.peer)
                    self._carry_out(self.connection.start(now_s), now_s)
                case events.StreamReset() | events.StopSendingReceived():
                    self._lost("", "a stream was reset", now_s)
                case events.ConnectionTerminated():
                    self._lost(*why(event), now_s)
        closing = aioquic_internals.close_event(self.quic)
        if closing is not None:
            self._lost(*why(closing), now_s)

    def _stream_data(self, stream: int, data: bytes, now_s: float) -> None:
        if self.connection is not None:
            self._carry_out(self.connection.receive(stream, data, now_s), now_s)

    def _count_lost(self, packets: int, probed: bool) -> None:
        if not probed:
            self._lost_packets += packets

    def _lost(self, code: str, message: str, now_s: float) -> None:
        if self.connection is not None and self.ended is None:
            self._carry_out(self.connection.lost(code, message), now_s)
        self._end(code, message, by_peer=True)

    def _carry_out(self, effects: list[Effect], now_s: float) -> None:
        for effect in effects:
            match effect:
                case Transmit(stream, data):
                    self.quic.send_stream_data(stream, data)
                case Deliver():
                    self._deliver(effect, now_s)
                case Opened():
                    self.opened = True
                case Finish(code, message, by_peer):
                    self._end(code, message, by_peer=by_peer)

    def _deliver(self, effect: Deliver, now_s: float) -> None:
        if self.exchange is not None:
            self._do(self.exchange.take(effect.frame, now_s))
            return
        self.inbox.append(effect)
        self._inbox_bytes += effect.size
        most = self._trust.limits.inbox_bytes_max
        if self._inbox_bytes > most:
            self.close(
                now_s, "inbox_full", f"more than inbox_bytes_max={most:,} bytes wait to be read"
            )

    def _do(self, effects: list[request_states.Effect]) -> None:
        for effect in effects:
            match effect:
                case request_states.Resolve() | request_states.Fail():
                    self._news.append(effect)
                case request_states.Send(frame) if (
                    self.connection is not None and self.ended is None
                ):
                    self._carry_out(self.connection.send(frame), 0.0)
                case request_states.Breach(code, message):
                    self._news.append(effect)
                    self._end(code, message, by_peer=False)

    def _end(self, code: str, message: str, *, by_peer: bool) -> None:
        if self.ended is not None:
            return
        reason = ": ".join(part for part in (code, message) if part)
        reason = f" by {'the peer' if by_peer else 'this side'}: {reason}" if reason else ""
        self._goodbye = ("", "") if by_peer else (code, message)
        peer = self.peer.name if self.peer is not None else "the server"
        self.ended = (
            LinkClosed(f"the link to {peer} is closed{reason}")
            if self.opened
            else opening_error(code, f"no link to {peer}{reason}")
        )
        if self.exchange is not None:
            self._do(self.exchange.end(self.ended.message))

    def _closed(self) -> MidstreamerError:
        return LinkClosed(self.ended.message if self.ended else "the link is not open yet")

    def _ping_s(self) -> float:
        return self._idle_from_s + self._trust.limits.idle_s / 3


def answer_of(effect: request_states.Effect) -> tuple[int, Answer | MidstreamerError] | None:
    """Return (number of the request, its answer or error) if the effect ends a request.

    Otherwise return None.
    """
    match effect:
        case request_states.Resolve(number, answer):
            return number, answer
        case request_states.Fail(number, error):
            return number, error
        case _:
            return None
