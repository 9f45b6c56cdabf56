"""The link that every carrier hands out: `protocol.connection` driven over a wire of bytes.

A wire moves bytes of numbered streams and can hang up; everything else - handshake, frames,
watermarks, waiting - is here once.  The wire calls in: `data`, `lost` and `written`.

No exception leaves these calls, nor the link's timer: whatever fails in them, in the connection or
in what the application attends with, closes the link and hangs up its wire.  A link that stayed
open after a failure would hold its place and its buffers, and nobody would read it.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from typing import Protocol

from midstreamer.domain.errors import LinkClosed, MidstreamerError, Overloaded, Refused
from midstreamer.domain.identity import Identity
from midstreamer.protocol.connection import Connection
from midstreamer.protocol.effects import Deliver, Effect, Finish, Opened, Transmit
from midstreamer.protocol.frames import Frame
from midstreamer.telemetry import logs, metrics
from midstreamer.transport.address import Scheme
from midstreamer.transport.carrier import Limits

log = logs.get(__name__)

RETRY_AFTER_S = 0.05
TURN_BYTES = 16 * 1024
"""Read of one link in one turn of the loop. Bytes that came out of order are there all at once when
the gap is closed, megabytes of the smallest frames: read in one go they hold everybody up."""
INBOX_FULL = "inbox_full"
FAILED = "this side failed"


class Wire(Protocol):
    """What a carrier must be able to do for a link."""

    @property
    def scheme(self) -> Scheme:
        """The carrier that this is."""

    @property
    def silent_s(self) -> float:
        """Seconds since something of the peer came."""

    def write(self, stream: int, data: bytes, *, at_once: bool = False) -> None:
        """Send bytes on a stream, in order; at once, or with what else this turn writes."""

    def hang_up(self, code: str, message: str) -> None:
        """End the connection, telling the peer why where that is possible; never raises."""

    def taken(self) -> None:
        """The application took a frame that this wire brought."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes written that the other side has not been seen to take."""


class FramedLink:
    """A Link over any wire."""

    def __init__(self, connection: Connection, wire: Wire, limits: Limits) -> None:
        self._connection = connection
        self._wire = wire
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._inbox: collections.deque[Deliver] = collections.deque()
        self._inbox_bytes = 0
        self._later: collections.deque[tuple[int, memoryview]] = collections.deque()
        """Bytes of streams for the next turns of the loop."""
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
        """Who is at the other end, from its certificate."""
        return self._connection.peer

    @property
    def incarnation(self) -> str:
        """What the peer's handshake said of its incarnation."""
        return self._connection.peer_incarnation

    @property
    def capabilities(self) -> frozenset[str]:
        """What the peer's handshake named."""
        return self._connection.peer_capabilities

    @property
    def scheme(self) -> Scheme:
        """The carrier that it came by."""
        return self._wire.scheme

    @property
    def silence(self) -> float:
        """How long the peer was not heard, as a share of `Limits.idle_s`; 0 when it has ended."""
        return 0.0 if self._end is not None else self._wire.silent_s / self._limits.idle_s

    def send(self, frame: Frame, *, bulk: bool = False, at_once: bool = False) -> None:
        """Queue a frame. Overloaded above the high-water mark, LinkClosed once closed."""
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
            self._carry_out(effects, at_once=at_once)
        except Exception as error:
            self._fail(error)
            raise self._closed_error() from None  # the log has the cause

    async def receive(self) -> Frame:
        """The next frame of either stream. LinkClosed when there will be none."""
        while not self._inbox:
            if self._end is not None:
                raise self._closed_error()
            self._arrived.clear()
            await self._arrived.wait()
        taken = self._inbox.popleft()
        self._inbox_bytes -= taken.size
        self._wire.taken()
        return taken.frame

    def attend(self, take: Callable[[Frame], bool]) -> None:
        """Offer each frame that comes while none waits; what ``take`` declines is received.

        A frame taken at once spares its reader a turn of the loop, a tenth of a round trip.
        """
        self._take = take

    async def drained(self) -> None:
        """Return when what was sent is below the low-water mark."""
        await self._drained.wait()
        if self._end is not None:
            raise self._closed_error()

    async def close(self, code: str = "", message: str = "") -> None:
        """Say why (a Refusal, when there is a code), then close; safe to call twice."""
        self.end(code, message)

    # --- what the carrier calls ---

    def start(self) -> None:
        """Begin the handshake, or wait for it."""
        try:
            self._carry_out(self._connection.start(self._loop.time()))
            self._set_timer()
        except Exception as error:
            self._fail(error)

    async def opened(self) -> None:
        """Return when the handshake is done; Refused or LinkClosed when it failed."""
        await asyncio.shield(self._opened)

    def end(self, code: str = "", message: str = "") -> None:
        """Close, from where nothing can be awaited."""
        if self._end is None:
            try:
                self._carry_out(self._connection.close(code, message))
            except Exception as error:
                self._fail(error)

    def data(self, stream: int, data: bytes) -> None:
        """The wire brought bytes."""
        if self._later or len(data) > TURN_BYTES:
            self._read_later(stream, data)
        else:
            self._read(stream, data)

    def lost(self, code: str = "", message: str = "") -> None:
        """The wire ended by itself."""
        if self._end is None:
            try:
                self._carry_out(self._connection.lost(code, message))
            except Exception as error:
                self._fail(error)

    def written(self) -> None:
        """Bytes have left: look at the low-water mark."""
        try:
            if not self._drained.is_set() and self._unsent_bytes() <= self._limits.send_low_bytes:
                self._drained.set()
        except Exception as error:
            self._fail(error)

    @property
    def inbox_bytes(self) -> int:
        """Bytes of frames that came and were not taken yet."""
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
        """Read the next part of what waits; the rest in turns of its own."""
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

    def _carry_out(self, effects: list[Effect], *, at_once: bool = False) -> None:
        for effect in effects:
            match effect:
                case Transmit(stream, data):
                    self._wire.write(stream, data, at_once=at_once)
                case Deliver():
                    self._deliver(effect)
                case Opened():
                    self._cancel_timer()
                    if not self._opened.done():  # answering may have failed, and ended the link
                        self._opened.set_result(None)
                case Finish():
                    self._finish(effect)

    def _deliver(self, effect: Deliver) -> None:
        if self._take is not None and not self._inbox and self._take(effect.frame):
            self._wire.taken()
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
            self._opened.exception()  # nobody need await it: an accepted link just goes
        self._arrived.set()
        self._drained.set()
        self.closed.set()
        self._take = None  # it belongs to the application, and refers back to this link
        self._wire.hang_up(effect.code, effect.message)

    def _fail(self, error: Exception) -> None:
        """An exception was met: close, tell the peer where that still works, and hang up."""
        log.error("link.failed", peer=self.peer.name, exc_info=error)
        try:
            self._carry_out(self._connection.close(MidstreamerError.code, FAILED))
        except Exception:
            log.exception("link.failed", peer=self.peer.name, closing=True)
        self._finish(Finish(MidstreamerError.code, FAILED, by_peer=False))  # unless it has

    def _set_timer(self) -> None:
        """Wake the connection when it wants to be; a deadline that moves later is kept lazily."""
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
        said = ": ".join(part for part in (end.code, end.message) if part) if end else ""
        by = "by the peer" if end and end.by_peer else "by this side"
        return f" {by}: {said}" if said else ""


def opening_error(code: str, message: str) -> MidstreamerError:
    """What dialling raises when the connection ended before it was open."""
    if code == Overloaded.code:
        return Overloaded(message, retry_after_s=1.0)
    return Refused(message, reason=code) if code else LinkClosed(message)
