"""The `Link` of every carrier: it runs the state machine of `protocol.connection` over a `Wire`.

A wire moves bytes of numbered streams and can close the connection.  Handshake, frames, watermarks
and waiting are the same for all carriers and are in `FramedLink`.  The carrier calls the methods
`data`, `lost` and `written` of `FramedLink`.

None of these three methods, nor the callback of the link's timer, raises an exception.  If the
state machine, the wire or the application's callback raises one, the link and its wire are closed.
A link that stayed open after such a failure would keep its place and its memory without any use.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from typing import Protocol

from midstreamer.domain.errors import LinkClosed, MidstreamerError, Overloaded, Refused
from midstreamer.domain.identity import Identity
from midstreamer.protocol.connection import Connection
from midstreamer.protocol.connection_effects import Deliver, Effect, Finish, Opened, Transmit
from midstreamer.protocol.frames import Frame
from midstreamer.telemetry import logs, metrics
from midstreamer.transport.address import Scheme
from midstreamer.transport.carrier import Limits

log = logs.get(__name__)

RETRY_AFTER_S = 0.05
TURN_BYTES = 16 * 1024
"""Maximum bytes of one link that are decoded in one turn of the event loop. When a lost
packet is sent again and arrives, the frames behind it are ready all at once: perhaps megabytes of
small frames. To decode them in one turn would delay all other links."""
INBOX_FULL = "inbox_full"
FAILED = "this side failed"
"""Message of the Refusal after an exception at this side; the log of this process has the cause."""


class Wire(Protocol):
    """A connection of a carrier that moves bytes for one link."""

    @property
    def scheme(self) -> Scheme:
        """The carrier of this wire."""

    @property
    def silent_s(self) -> float:
        """Seconds since data of the peer last arrived."""

    def write(self, stream: int, data: bytes, *, flush: bool = False) -> None:
        """Send bytes on a stream, in order: now if ``flush``, else when the loop's turn ends."""

    def hang_up(self, code: str, message: str) -> None:
        """Close the connection, with the reason for the peer if possible. Never raises."""

    def consumed(self) -> None:
        """The link calls this when the application has taken a frame received on this wire."""

    @property
    def unsent_bytes(self) -> int:
        """Written bytes that count as unsent.

        On QUIC the peer has not acknowledged them; on WebSocket the kernel has not taken them.
        """


class FramedLink:
    """A `Link` over the `Wire` of any carrier."""

    def __init__(self, connection: Connection, wire: Wire, limits: Limits) -> None:
        self._connection = connection
        self._wire = wire
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._inbox: collections.deque[Deliver] = collections.deque()
        self._inbox_bytes = 0
        self._later: collections.deque[tuple[int, memoryview]] = collections.deque()
        """Received bytes, with their streams, to decode in the next turns of the event loop."""
        self._later_bytes = 0
        self._arrived = asyncio.Event()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._drained = asyncio.Event()
        self._drained.set()
        self._end: Finish | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._take: Callable[[Frame], bool] | None = None
        self.closed = asyncio.Event()
        self._counted = metrics.CARRIER_LINKS.labels(wire.scheme)
        self._counted.inc()

    # --- Link ---

    @property
    def peer(self) -> Identity:
        """Identity of the peer, from its certificate."""
        return self._connection.peer

    @property
    def incarnation(self) -> str:
        """Incarnation from the peer's handshake. Empty if the peer is the server."""
        return self._connection.peer_incarnation

    @property
    def capabilities(self) -> frozenset[str]:
        """Capabilities from the peer's handshake."""
        return self._connection.peer_capabilities

    @property
    def scheme(self) -> Scheme:
        """The carrier of the link."""
        return self._wire.scheme

    @property
    def silence(self) -> float:
        """Time since data of the peer arrived, as a share of `Limits.idle_s`. 0 once closed."""
        return 0.0 if self._end is not None else self._wire.silent_s / self._limits.idle_s

    def send(self, frame: Frame, *, bulk: bool = False, flush: bool = False) -> None:
        """Queue a frame. Raise LinkClosed if the link is closed.

        Raise Overloaded if more than `Limits.send_high_bytes` bytes already wait to be sent.
        """
        if self._end is not None:
            raise self._closed_error()
        unsent = self._unsent_bytes()
        if unsent > self._limits.send_high_bytes:
            self._drained.clear()
            raise Overloaded(
                f"{unsent:,} B wait to be sent to {self.peer.name}, more than"
                f" send_high_bytes={self._limits.send_high_bytes:,}: wait for drained()",
                retry_after_s=RETRY_AFTER_S,
            )
        if unsent > self._limits.send_low_bytes:
            self._drained.clear()
        effects = self._connection.send(frame, bulk=bulk)
        try:
            self._carry_out(effects, flush=flush)
        except Exception as error:
            self._fail(error)
            raise self._closed_error() from None  # `_fail` has logged the exception

    async def receive(self) -> Frame:
        """Return the next received frame. Raise LinkClosed when no frame can follow."""
        while not self._inbox:
            if self._end is not None:
                raise self._closed_error()
            self._arrived.clear()
            await self._arrived.wait()
        taken = self._inbox.popleft()
        self._inbox_bytes -= taken.size
        self._wire.consumed()
        return taken.frame

    def deliver_to(self, take: Callable[[Frame], bool]) -> None:
        """Call ``take`` with each arriving frame, instead of queueing the frame for `receive`.

        ``take`` returns True if it has handled the frame.  If it returns False, the frame is queued
        for `receive`.  A frame is also queued if an earlier one is still in the queue.  ``take``
        gets a frame one turn of the event loop earlier than the caller of `receive` would, which
        saves about a tenth of a round trip.
        """
        self._take = take

    async def drained(self) -> None:
        """Return when the unsent bytes are at or below `Limits.send_low_bytes`."""
        await self._drained.wait()
        if self._end is not None:
            raise self._closed_error()

    async def close(self, code: str = "", message: str = "") -> None:
        """Close the link; with a code, send a Refusal first. It is safe to call this twice."""
        self.end(code, message)

    # --- the carrier calls the following methods ---

    def start(self) -> None:
        """Begin the handshake, or wait for the peer's, and start its timeout."""
        try:
            self._carry_out(self._connection.start(self._loop.time()))
            self._set_timer()
        except Exception as error:
            self._fail(error)

    async def opened(self) -> None:
        """Return when the handshake is complete. Raise Refused or LinkClosed if it failed."""
        await asyncio.shield(self._opened)

    def end(self, code: str = "", message: str = "") -> None:
        """Do the same as `close`, without `await`."""
        if self._end is None:
            try:
                self._carry_out(self._connection.close(code, message))
            except Exception as error:
                self._fail(error)

    def data(self, stream: int, data: bytes) -> None:
        """Handle received bytes of a stream: decode them now, or in later turns of the loop."""
        if self._later or len(data) > TURN_BYTES:
            self._read_later(stream, data)
        else:
            self._read(stream, data)

    def lost(self, code: str = "", message: str = "") -> None:
        """Handle the end of the wire's connection."""
        if self._end is None:
            try:
                self._carry_out(self._connection.lost(code, message))
            except Exception as error:
                self._fail(error)

    def written(self) -> None:
        """Wake `drained` if the wire has sent enough to reach the low-water mark."""
        try:
            if not self._drained.is_set() and self._unsent_bytes() <= self._limits.send_low_bytes:
                self._drained.set()
        except Exception as error:
            self._fail(error)

    @property
    def inbox_bytes(self) -> int:
        """Bytes of received frames that the application has not taken yet."""
        return self._inbox_bytes

    # --- reading ---

    def _read(self, stream: int, data: bytes) -> None:
        try:
            self._carry_out(self._connection.receive(stream, data, self._loop.time()))
            if self._timer is None and self._connection.unfinished.begun:
                self._set_timer()
        except Exception as error:
            self._fail(error)

    def _read_later(self, stream: int, data: bytes) -> None:
        if self._end is not None:
            return
        if not self._later:
            self._loop.call_soon(self._read_on)
        self._later.append((stream, memoryview(data)))
        self._later_bytes += len(data)
        if self._inbox_bytes + self._later_bytes > self._limits.inbox_bytes_max:
            self._close_full()

    def _read_on(self) -> None:
        """Decode at most `TURN_BYTES` of the waiting bytes; schedule the next turn for the rest."""
        if not self._later:
            return  # the link has ended
        stream, data = self._later.popleft()
        self._later_bytes -= len(data[:TURN_BYTES])
        if len(data) > TURN_BYTES:
            self._later.appendleft((stream, data[TURN_BYTES:]))
        self._read(stream, bytes(data[:TURN_BYTES]))
        if self._later:
            self._loop.call_soon(self._read_on)

    # --- effects ---

    def _carry_out(self, effects: list[Effect], *, flush: bool = False) -> None:
        for effect in effects:
            match effect:
                case Transmit(stream, data):
                    self._wire.write(stream, data, flush=flush)
                case Deliver():
                    self._deliver(effect)
                case Opened():
                    self._cancel_timer()
                    # If sending our part of the handshake failed, the link has ended, and
                    # `_opened` has an exception already.
                    if not self._opened.done():
                        self._opened.set_result(None)
                case Finish():
                    self._finish(effect)

    def _deliver(self, effect: Deliver) -> None:
        if self._take is not None and not self._inbox and self._take(effect.frame):
            self._wire.consumed()
            return
        self._inbox.append(effect)
        self._inbox_bytes += effect.size
        self._arrived.set()
        if self._inbox_bytes > self._limits.inbox_bytes_max and self._end is None:
            self._close_full()

    def _close_full(self) -> None:
        waiting = self._inbox_bytes + self._later_bytes
        self.end(
            INBOX_FULL,
            f"{waiting:,} B wait to be read, more than"
            f" inbox_bytes_max={self._limits.inbox_bytes_max:,}",
        )

    def _finish(self, effect: Finish) -> None:
        if self._end is not None:
            return
        self._end = effect
        self._counted.dec()
        self._later.clear()
        self._later_bytes = 0
        self._cancel_timer()
        if not self._opened.done():
            self._opened.set_exception(self._opening_error())
            self._opened.exception()  # else asyncio would warn if nobody awaits `_opened`
        self._arrived.set()
        self._drained.set()
        self.closed.set()
        self._take = None  # the callback refers to this link: break the reference cycle
        self._wire.hang_up(effect.code, effect.message)

    def _fail(self, error: Exception) -> None:
        """Log an exception and close the link, with a Refusal for the peer if that still works."""
        log.error("link.failed", peer=self.peer.name, exc_info=error)
        try:
            self._carry_out(self._connection.close(MidstreamerError.code, FAILED))
        except Exception:
            log.exception("link.failed", peer=self.peer.name, closing=True)
        # If the code above has sent the Refusal, it has also ended the link.  Then the next line
        # does nothing.
        self._finish(Finish(MidstreamerError.code, FAILED, by_peer=False))

    def _set_timer(self) -> None:
        """Set the timer for the connection's next deadline.

        If the deadline is postponed, the timer still fires at the old time, and is then set again.
        """
        wakeup_s = self._connection.next_wakeup_s()
        if wakeup_s is not None and self._end is None:
            self._timer = self._loop.call_at(wakeup_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self._carry_out(self._connection.tick(self._loop.time()))
            self._set_timer()
        except Exception as error:
            self._fail(error)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unsent_bytes(self) -> int:
        return self._wire.unsent_bytes + self._connection.held_bytes

    def _closed_error(self) -> LinkClosed:
        return LinkClosed(f"the link to {self.peer.name} is closed{self._why()}")

    def _opening_error(self) -> MidstreamerError:
        code = self._end.code if self._end else ""
        return opening_error(code, f"no link to {self.peer.name}{self._why()}")

    def _why(self) -> str:
        end = self._end
        reason = ": ".join(part for part in (end.code, end.message) if part) if end else ""
        by = "by the peer" if end and end.by_peer else "by this side"
        return f" {by}: {reason}" if reason else ""


def opening_error(code: str, message: str) -> MidstreamerError:
    """Return the error for a connection that ended before its handshake was complete."""
    if code == Overloaded.code:
        return Overloaded(message, retry_after_s=1.0)
    return Refused(message, reason=code) if code else LinkClosed(message)
