"""A link under gevent: `loadtests.connection_core` with a UDP socket, a timer and a clock.

It uses neither threads nor asyncio.  The socket and the timer call back in gevent's loop, and each
waiting request is a greenlet.  All datagrams that have arrived are read before anything is sent,
like in the carrier on asyncio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import gevent
import gevent.socket
from gevent.event import AsyncResult, Event

from loadtests.connection_core import Figures, Machine, answer_of
from midstreamer.domain.errors import LinkClosed, MidstreamerError, Unavailable
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol.frames import Answer, Frame, Request
from midstreamer.telemetry import logs
from midstreamer.transport import address as addresses
from midstreamer.transport.aioquic import sockets
from midstreamer.transport.hosts import Found
from midstreamer.transport.trust import Trust

log = logs.get(__name__)

ACK_AT_ONCE = 8
"""A link that reads this many datagrams at once, or more, acknowledges them immediately."""
READ = 1
"""libev's event mask for a readable socket."""


class GeventLink:
    """A link that this side dialled; `dial` creates it."""

    def __init__(self, trust: Trust, address: str, found: Found, expect: Kind) -> None:
        self.socket, place = sockets.connected(address, found)
        self.machine = Machine(trust, place, expect)
        self._limits = trust.limits
        self._waiting: dict[int, AsyncResult[Answer]] = {}
        self._changed = Event()
        loop = gevent.get_hub().loop
        self._readable: Any = loop.io(self.socket.fileno(), READ)
        self._timer: Any = None
        self._timer_s = math.inf
        self._refusals = 0
        self._over = False

    # --- called by users ---

    @property
    def peer(self) -> Identity:
        """The identity of the peer, from the peer's certificate.

        Raise LinkClosed while the peer is not verified yet.
        """
        if self.machine.peer is None:
            raise LinkClosed("the peer is not verified yet")
        return self.machine.peer

    @property
    def closed(self) -> bool:
        """Whether the link has ended."""
        return self.machine.ended is not None

    @property
    def draining(self) -> bool:
        """Whether the peer wants no more requests on this link."""
        return self.machine.draining

    def figures(self) -> Figures | None:
        """Return the transport figures of the link; None if the link has ended."""
        return self.machine.figures()

    def ask(self, frame: Request, *, budget_s: float) -> Answer:
        """Send a request and return its answer; raise an error if the request fails."""
        number = self.machine.ask(frame, time.monotonic(), budget_s=budget_s)
        waiting = self._waiting[number] = AsyncResult()
        self._flush(spoken=True)
        try:
            answer: Answer = waiting.get()
            return answer
        finally:
            self._waiting.pop(number, None)

    def send(self, frame: Frame, *, bulk: bool = False) -> None:
        """Send a frame; Overloaded if too many bytes are unsent, LinkClosed if the link ended."""
        self.machine.send(frame, time.monotonic(), bulk=bulk)
        self._flush(spoken=True)

    def receive(self) -> Frame:
        """Wait for the next frame from the peer and return it; raise LinkClosed at the end.

        Only for links without requests, for which `Machine.talk` was not called.
        """
        while True:
            frame = self.machine.receive()
            if frame is not None:
                return frame
            self._wait()

    def drained(self) -> None:
        """Wait until few bytes are unsent (the low-water mark); LinkClosed if the link ends."""
        while not self.closed and self.machine.unsent_bytes > self._limits.send_low_bytes:
            self._wait()
        if self.machine.ended is not None:
            raise LinkClosed(self.machine.ended.message)

    def close(self, code: str = "", message: str = "") -> None:
        """Close the link and send the peer the code and message; a second call has no effect."""
        self.machine.close(time.monotonic(), code, message)
        self._flush()

    def pause(self) -> None:
        """Stop reading, as a slow reader does; datagrams that arrive wait in the socket."""
        if not self._over:
            self._readable.stop()

    def resume(self) -> None:
        """Continue reading after `pause`."""
        if not self._over:
            self._readable.start(self._on_readable)

    # --- opening ---

    def open(self) -> None:
        """Do the handshakes of QUIC and of our protocol; raise the reason if they fail."""
        self._readable.start(self._on_readable)
        self.machine.start(time.monotonic())
        self._flush()
        limit = gevent.Timeout.start_new(self._limits.handshake_s)
        try:
            while not self.machine.opened and self.machine.ended is None:
                self._wait()
        except gevent.Timeout as timeout:
            if timeout is not limit:
                raise
            self.close()
            raise Unavailable(
                f"no answer within {self._limits.handshake_s:g} s", retry_after_s=1.0
            ) from None
        finally:
            limit.close()
        if self.machine.ended is not None:
            raise self.machine.ended

    def _wait(self) -> None:
        self._changed.clear()
        self._changed.wait()

    # --- Gevent's loop calls `_on_readable` and `_on_timer`. ---

    def _on_readable(self) -> None:
        count = 0
        try:
            while count < sockets.BATCH and not self.closed:
                data = self.socket.recv(sockets.DATAGRAM_BYTES_MAX)
                count += 1
                self._refusals = 0
                self.machine.datagram(data, time.monotonic())
        except BlockingIOError:
            pass
        except OSError as error:
            self._refused(error)
        except Exception as error:
            self._failed(error)
        if count >= ACK_AT_ONCE or self.closed or self.machine.must_answer:
            self._flush(spoken=count >= ACK_AT_ONCE)
        else:
            self._settle()

    def _on_timer(self) -> None:
        self._timer, self._timer_s = None, math.inf
        try:
            self.machine.wake(time.monotonic())
        except Exception as error:
            self._failed(error)
        self._flush()

    def _failed(self, error: Exception) -> None:
        """Log an error and end the link.

        A callback of gevent's loop raised the error, so no caller can catch it.
        """
        log.error("link.failed", exc_info=error)
        self.machine.give_up("this side failed")

    def _refused(self, error: OSError) -> None:
        # One ICMP error ends a link that has not opened yet. An open link ends only after two
        # errors without a datagram in between. The carrier on asyncio does the same.
        self._refusals += 1
        if not self.machine.opened or self._refusals >= 2:
            self.machine.give_up(error.strerror or "the port is closed")

    def _flush(self, *, spoken: bool = False) -> None:
        if self._over:
            return
        now_s = time.monotonic()
        ending = self.closed
        datagrams = self.machine.farewell(now_s) if ending else self.machine.outgoing(
            now_s, spoken=spoken
        )  # fmt: skip
        for data in datagrams:
            self._send(data)
        self._settle()

    def _send(self, data: bytes) -> None:
        try:
            self.socket.send(data)
        except BlockingIOError:
            pass  # the buffer of the socket is full, so the datagram is lost
        except OSError as error:
            self._refused(error)

    def _settle(self) -> None:
        """Give answers to waiting requests, and set the timer.

        If the link has ended, free its socket and its timer instead of setting the timer.
        """
        for effect in self.machine.news():
            result = answer_of(effect)
            waiting = self._waiting.pop(result[0], None) if result is not None else None
            if result is None or waiting is None:
                continue
            if isinstance(result[1], MidstreamerError):
                waiting.set_exception(result[1])
            else:
                waiting.set(result[1])
        self._changed.set()
        if self.closed:
            self._free()
        else:
            self._set_timer()

    def _set_timer(self) -> None:
        due_s = self.machine.next_wakeup_s()
        if self._timer is not None:
            if self._timer_s <= due_s:
                return
            self._timer.stop()
            self._timer.close()
        self._timer_s = due_s
        if due_s < math.inf:
            wait_s = max(0.0, due_s - time.monotonic())
            self._timer = gevent.get_hub().loop.timer(wait_s)
            self._timer.start(self._on_timer, update=True)

    def _free(self) -> None:
        if self._over:
            return
        self._over = True
        for watcher in (self._readable, self._timer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._timer = None
        self.socket.close()
        self.machine.release()


def dial(trust: Trust, address: str, *, expect: Kind = Kind.COORDINATOR) -> GeventLink:
    """Open a link and return it; of several IP addresses, take the first that answers.

    The certificate is renewed first if it is due.  Raise Refused, Overloaded or Unavailable if no
    link opens.  Before the first request, the caller must call `Machine.talk` of ``link.machine``.
    """
    trust.refresh()
    why: MidstreamerError = Unavailable(f"{address} resolves to no place")
    for found in places(address):
        link = GeventLink(trust, address, found, expect)
        try:
            link.open()
        except MidstreamerError as error:
            why = error
        else:
            return link
    raise why


def places(address: str) -> Sequence[Found]:
    """Resolve an address; other greenlets run while a name is looked up.

    Raise Unavailable if the name does not resolve.
    """
    host, _, port = addresses.parse(address).place.rpartition(":")
    try:
        answers = gevent.socket.getaddrinfo(
            host.strip("[]"), int(port), type=gevent.socket.SOCK_DGRAM
        )
    except OSError as error:
        raise Unavailable(f"{address}: {error.strerror}", retry_after_s=1.0) from error
    return [(family, place) for family, _, _, _, place in answers]
