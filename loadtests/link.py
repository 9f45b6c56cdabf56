"""A link under gevent: `loadtests.machine` with a UDP socket, a timer and a clock.

No thread and no asyncio: the socket and the timer call back in gevent's loop, and whoever waits for
an answer is a greenlet.  As the carrier on asyncio does, everything that has come is read before
anything is answered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import gevent
import gevent.socket
from gevent.event import AsyncResult, Event

from loadtests.machine import Figures, Machine, answer_of
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
READ = 1


class GeventLink:
    """One link that this side dialled; `dial` makes it."""

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

    # --- what a user calls ---

    @property
    def peer(self) -> Identity:
        """Who is at the other end, from its certificate."""
        if self.machine.peer is None:
            raise LinkClosed("nobody was judged yet")
        return self.machine.peer

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self.machine.ended is not None

    @property
    def draining(self) -> bool:
        """Whether the other side wants no more requests on it."""
        return self.machine.draining

    def figures(self) -> Figures | None:
        """What the transport knows; None when the link is over."""
        return self.machine.figures()

    def ask(self, frame: Request, *, budget_s: float) -> Answer:
        """Send a request and wait for its answer; a Failure is raised as the error it names."""
        number = self.machine.ask(frame, time.monotonic(), budget_s=budget_s)
        waiting = self._waiting[number] = AsyncResult()
        self._flush(spoken=True)
        try:
            answer: Answer = waiting.get()
            return answer
        finally:
            self._waiting.pop(number, None)

    def send(self, frame: Frame, *, bulk: bool = False) -> None:
        """Say something; Overloaded above the high-water mark, LinkClosed once closed."""
        self.machine.send(frame, time.monotonic(), bulk=bulk)
        self._flush(spoken=True)

    def receive(self) -> Frame:
        """The next frame of either stream, where nobody asks. LinkClosed when none will come."""
        while True:
            frame = self.machine.receive()
            if frame is not None:
                return frame
            self._wait()

    def drained(self) -> None:
        """Return when what was sent is below the low-water mark."""
        while not self.closed and self.machine.unsent_bytes > self._limits.send_low_bytes:
            self._wait()
        if self.machine.ended is not None:
            raise LinkClosed(self.machine.ended.message)

    def close(self, code: str = "", message: str = "") -> None:
        """End it; with a code, the other side is told why. Safe to call twice."""
        self.machine.close(time.monotonic(), code, message)
        self._flush()

    def pause(self) -> None:
        """Read nothing any more, as a slow reader does; what comes waits in the socket."""
        if not self._over:
            self._readable.stop()

    def resume(self) -> None:
        """Read on."""
        if not self._over:
            self._readable.start(self._on_readable)

    # --- opening ---

    def open(self) -> None:
        """Go through both handshakes; the error says why there is no link."""
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

    # --- what gevent's loop calls ---

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
        """Nobody is there to raise it to: the link ends."""
        log.error("link.failed", exc_info=error)
        self.machine.give_up("this side failed")

    def _refused(self, error: OSError) -> None:
        # As on asyncio: before the handshake it is an answer, later only the second in a row is.
        self._refusals += 1
        if not self.machine.opened or self._refusals >= 2:
            self.machine.give_up(error.strerror or "the port is closed")

    def _flush(self, *, spoken: bool = False) -> None:
        if self._over:
            return
        now_s = time.monotonic()
        ending = self.closed
        made = self.machine.farewell(now_s) if ending else self.machine.outgoing(
            now_s, spoken=spoken
        )  # fmt: skip
        for data in made:
            self._send(data)
        self._settle()

    def _send(self, data: bytes) -> None:
        try:
            self.socket.send(data)
        except BlockingIOError:
            pass  # lost, as datagrams are
        except OSError as error:
            self._refused(error)

    def _settle(self) -> None:
        """Tell what is new, and set the timer; at the end, give everything back."""
        for effect in self.machine.news():
            ended = answer_of(effect)
            waiting = self._waiting.pop(ended[0], None) if ended is not None else None
            if ended is None or waiting is None:
                continue
            if isinstance(ended[1], MidstreamerError):
                waiting.set_exception(ended[1])
            else:
                waiting.set(ended[1])
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
    """Open a link, without a machine of requests. Refused, Overloaded and Unavailable say why not.

    The certificate is renewed first when it is due.
    """
    trust.refresh()
    why: MidstreamerError = Unavailable(f"{address} leads nowhere")
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
    """Where an address leads; a name is looked up without holding up other greenlets."""
    host, _, port = addresses.parse(address).place.rpartition(":")
    try:
        answers = gevent.socket.getaddrinfo(
            host.strip("[]"), int(port), type=gevent.socket.SOCK_DGRAM
        )
    except OSError as error:
        raise Unavailable(f"{address}: {error.strerror}", retry_after_s=1.0) from error
    return [(family, place) for family, _, _, _, place in answers]
