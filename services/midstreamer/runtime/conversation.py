"""Requests and answers over one link.

A `Peer` wraps one link.  `ask` sends a request and awaits its answer; `tell` states something;
`follow` reads the many answers of one Tail.  The other way round, frames that come are first
held against `protocol.authorisation` - a frame its sender may not send closes the connection -
and then handed to the one `Handle` of this side: requests each in a task of their own, at most
``in_flight_max`` at once, statements one after another in the order they came.

Nothing is retried here: only the caller knows whether asking twice is safe (with natural keys it
mostly is).  `runtime.peer` makes peers.
"""

from __future__ import annotations

import asyncio
import functools
import math
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from midstreamer.domain import errors
from midstreamer.domain.errors import (
    DeadlineExceeded,
    LinkClosed,
    MidstreamerError,
    Overloaded,
    RemoteProtocolError,
)
from midstreamer.domain.identity import Identity
from midstreamer.protocol import authorisation, frames
from midstreamer.protocol.capabilities import Capability
from midstreamer.protocol.frames import Answer, Changes, Drain, Failure, Frame, Request, Tail
from midstreamer.telemetry import logs, metrics, tracing
from midstreamer.transport.carrier import Link

log = logs.get(__name__)

IN_FLIGHT_MAX = 256
RETRY_AFTER_S = 0.05
BUDGET_S_MAX = 300.0
"""No request is worked on longer, whatever its budget says."""
FOLLOW_MAX = 1024
"""Changes frames that may wait for a slow reader of the feed; it is then told to begin again."""

BULK: frozenset[type[Frame]] = frozenset(
    {frames.Append, frames.Write, frames.Surveyed, frames.Loaded, frames.Recalled, frames.Changes}
)
"""Frames that may be large: they take the second stream, so that no small one waits for them.
Frames of one type always share a stream, and so keep their order."""

_peers: weakref.WeakSet[Peer] = weakref.WeakSet()
metrics.QUEUE_DEPTH.labels("requests").set_function(
    lambda: sum(len(peer._working) for peer in tuple(_peers) if not peer.closed)  # noqa: SLF001
)  # asked for when somebody looks: counting up and down costs each request something
_latency_s = functools.cache(metrics.REQUEST_LATENCY_S.labels)
"""Finding a metric by its labels costs as much as counting in it ten times."""

Handle = Callable[["Peer", Frame], Awaitable[Answer | None]]
OnPeer = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One live connection to one other process."""

    def __init__(
        self,
        link: Link,
        me: Identity,
        handle: Handle | None = None,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> None:
        self._link = link
        self._me = me
        self._handle = handle
        self._in_flight_max = in_flight_max
        self._allowed = authorisation.allowed(link.peer.kind, me.kind)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._following: dict[int, asyncio.Queue[Changes]] = {}
        self._working: dict[int, asyncio.Task[None]] = {}
        self._last_request = self._last_work = 0
        self._busy = True
        """Not reading: what comes now waits its turn."""
        self._ended = asyncio.Event()
        self._tails = 0
        """Tails of the other side that are being answered: they end with the link alone."""
        self.draining = self.leaving = False
        """The other side said Drain; its process is about to stop."""
        self.on_drain: Callable[[Peer], None] = _unheard
        """Called when the other side says Drain."""
        self._said_drain = self._said_leaving = False
        self._calm = asyncio.Event()
        _peers.add(self)

    @property
    def identity(self) -> Identity:
        """Who this is, from its certificate."""
        return self._link.peer

    @property
    def incarnation(self) -> str:
        """What its handshake said; empty for servers."""
        return self._link.incarnation

    @property
    def capabilities(self) -> frozenset[str]:
        """What it understands beyond the frames of every version (`protocol.capabilities`)."""
        return self._link.capabilities

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._ended.is_set()

    @property
    def busy(self) -> bool:
        """Whether requests are under way, in either direction; following does not count."""
        return len(self._waiting) > len(self._following) or len(self._working) > self._tails

    async def ask(self, frame: Request, *, budget_s: float | None = None) -> Answer:
        """Send a request, await its answer; a Failure is raised as the error it names."""
        budget_s = frame.budget_s if budget_s is None else budget_s
        number, request = self._numbered(frame, budget_s)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting[number] = answer
        # A timer of its own: asyncio.timeout costs twice as much, at every request.
        timer = loop.call_later(budget_s, self._unanswered, request)
        try:
            # Alone, there is nobody to share a datagram with.
            self._send(request, at_once=len(self._waiting) == 1)
            return await answer
        finally:
            timer.cancel()
            self._waiting.pop(number, None)
            if self._said_drain:
                self._settle_link()

    def drain(self, *, leaving: bool = False) -> None:
        """Ask the other side to send its next requests elsewhere, if it understands that."""
        if self.closed or (self._said_drain and (self._said_leaving or not leaving)):
            return
        self._said_drain, self._said_leaving = True, leaving
        if Capability.DRAIN in self.capabilities:
            try:
                self._send(Drain(leaving=leaving))
            except (LinkClosed, Overloaded) as error:
                log.info("drain.not_told", peer=self.identity.name, detail=error.message)
        self._settle_link()

    async def settled(self) -> None:
        """Return when nothing is under way after `drain`, and no request can come, or at the end.

        A peer that does not know Drain may still send a request: look at `busy` again later.
        """
        await self._calm.wait()

    def _settle_link(self) -> None:
        heard = self.draining or Capability.DRAIN not in self.capabilities
        if self._said_drain and heard and not self.busy:
            self._calm.set()

    def _drained(self, frame: Drain) -> None:
        self.draining, self.leaving = True, self.leaving or frame.leaving
        self.drain()
        self.on_drain(self)
        self._settle_link()

    def tell(self, frame: Frame) -> None:
        """Send a statement, or one of the many answers of a Tail. Overloaded, LinkClosed."""
        self._send(frame)

    async def drained(self) -> None:
        """Return when little is left unsent; what pushes without being asked waits here."""
        await self._link.drained()

    async def follow(self, frame: Tail) -> AsyncIterator[Changes]:
        """The changes after a position, for as long as the connection lives.

        Ends by raising: LinkClosed, or Overloaded when the reader was too slow. Either way,
        follow again from the last position seen; nothing is lost.
        """
        number, request = self._numbered(frame, frame.budget_s)
        queue: asyncio.Queue[Changes] = asyncio.Queue(FOLLOW_MAX)
        failed: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._following[number], self._waiting[number] = queue, failed
        try:
            self._send(request)
            while True:
                yield await _next(queue, failed)
        finally:
            self._following.pop(number, None)
            self._waiting.pop(number, None)
            if not failed.cancel() and not failed.cancelled():
                failed.exception()  # seen, even when the reader left before it came to it

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""
        await self._ended.wait()

    async def close(self, code: str = "", message: str = "") -> None:
        """End the connection; with a code, the other side is told why."""
        await self._link.close(code, message)

    async def run(self) -> None:
        """Read until the connection ends; whoever makes a peer sees to it that this runs."""
        metrics.LINKS.labels(self.identity.kind).inc()
        why: MidstreamerError = LinkClosed(f"the link to {self.identity.name} is closed")
        self._link.attend(self._take_at_once)
        try:
            while True:
                self._busy = False
                frame = await self._link.receive()
                self._busy = True
                await self._take(frame)
        except MidstreamerError as error:
            why = error
        finally:
            metrics.LINKS.labels(self.identity.kind).dec()
            self._end(why)
            await self._link.close()

    # --- what comes ---

    def _take_at_once(self, frame: Frame) -> bool:
        """Answers and requests need no waiting, unless something before them does."""
        return not (self._busy or self._objection(frame)[0]) and self._took(frame)

    def _took(self, frame: Frame) -> bool:
        if isinstance(frame, Answer):
            self._settle(frame)
        elif isinstance(frame, Request):
            self._begin(frame)
        elif isinstance(frame, Drain):
            self._drained(frame)
        else:
            return False
        return True

    async def _take(self, frame: Frame) -> None:
        await self._authorise(frame)
        if not self._took(frame) and self._handle is not None:
            try:
                await self._handle(self, frame)
            except Exception:
                log.exception("statement.failed", frame=_name(frame), peer=self.identity.name)

    async def _authorise(self, frame: Frame) -> None:
        code, message = self._objection(frame)
        if code:
            sender = self.identity
            metrics.REFUSED_FRAMES.labels(_name(frame), sender.kind).inc()
            log.warning("frame.refused", peer=sender.name, frame=_name(frame), reason=code)
            await self.close(code, message)
            raise RemoteProtocolError(message)

    def _objection(self, frame: Frame) -> tuple[str, str]:
        """Code and message of what speaks against a frame of this peer; empty for nothing."""
        sender = self.identity
        if type(frame) not in self._allowed:
            message = f"a {sender.kind} may not send {_name(frame)} to a {self._me.kind}"
            return authorisation.NOT_AUTHORISED, message
        claim = authorisation.claim(sender, frame)
        return (authorisation.CLAIM_MISMATCH, claim) if claim else ("", "")

    def _settle(self, answer: Answer) -> None:
        queue = self._following.get(answer.request)
        waiting = self._waiting.get(answer.request)
        if waiting is None or waiting.done():
            return  # late: its asker has given up
        if isinstance(answer, Failure):
            error = errors.from_code(answer.code, answer.message, answer.retry_after_s)
            waiting.set_exception(error)
        elif queue is None:
            waiting.set_result(answer)
        elif not isinstance(answer, Changes):
            waiting.set_exception(RemoteProtocolError(f"{_name(answer)} answers a Tail"))
        elif queue.full():
            waiting.set_exception(
                Overloaded(f"{FOLLOW_MAX} changes wait for their reader: follow again")
            )
        else:
            queue.put_nowait(answer)

    def _unanswered(self, request: Request) -> None:
        waiting = self._waiting.get(request.request)
        if waiting is not None and not waiting.done():
            waiting.set_exception(
                DeadlineExceeded(
                    f"{_name(request)} to {self.identity.name}:"
                    f" no answer within {request.budget_s:g} s"
                )
            )

    def _begin(self, request: Request) -> None:
        if len(self._working) >= self._in_flight_max:
            self._answer(
                request,
                _failure(
                    Overloaded(
                        f"{len(self._working)} requests of {self.identity.name} are under way,"
                        f" in_flight_max={self._in_flight_max}",
                        retry_after_s=RETRY_AFTER_S,
                    )
                ),
            )
            return
        self._last_work += 1
        work = self._work(self._last_work, request)
        self._working[self._last_work] = asyncio.get_running_loop().create_task(work)

    async def _work(self, number: int, request: Request) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            with tracing.span(_name(request), peer=str(self.identity.kind)):
                answer = await self._answered(request)
            result = answer.code if isinstance(answer, Failure) else "ok"
            if answer is not None:
                self._answer(request, answer, at_once=len(self._working) == 1)
            _latency_s(_name(request), result).observe(loop.time() - began_s)
        finally:
            # Here and not in a callback of the task, which would cost a turn of the loop.
            del self._working[number]
            if self._said_drain:
                self._settle_link()

    async def _answered(self, request: Request) -> Answer | None:
        if self._handle is None:
            return _failure(errors.BadInput(f"{self._me.name} answers no requests"))
        if isinstance(request, Tail):
            self._tails += 1
            try:
                return await self._handled(request)
            finally:
                self._tails -= 1
        return await self._handled(request)

    async def _handled(self, request: Request) -> Answer | None:
        assert self._handle is not None  # noqa: S101 - `_answered` looked
        endless = isinstance(request, Tail)  # following the feed
        if not (endless or 0.0 <= request.budget_s <= BUDGET_S_MAX):
            request = msgspec.structs.replace(request, budget_s=_time(request.budget_s))
        try:
            async with asyncio.timeout(None if endless else request.budget_s) as budget:
                return await self._handle(self, request)
        except MidstreamerError as error:
            return _failure(error)
        except Exception as error:
            if isinstance(error, TimeoutError) and budget.expired():
                return _failure(
                    DeadlineExceeded(f"{_name(request)}: {request.budget_s:g} s are over")
                )
            log.exception("request.failed", frame=_name(request), peer=self.identity.name)
            return _failure(MidstreamerError(f"{_name(request)} failed at {self._me.name}"))

    def _answer(self, request: Request, answer: Answer, *, at_once: bool = False) -> None:
        number = request.request
        try:
            try:
                self._send(msgspec.structs.replace(answer, request=number), at_once=at_once)
            except errors.ProtocolError as error:  # too large to send: say so instead
                self._send(msgspec.structs.replace(_failure(error), request=number))
        except Overloaded:
            # It does not read what it asks for; without an answer it will run into its deadline.
            log.warning("answer.dropped", frame=_name(answer), peer=self.identity.name)
        except LinkClosed:
            pass  # nobody is left to answer

    # --- small pieces ---

    def _numbered(self, frame: Request, budget_s: float) -> tuple[int, Request]:
        if self.draining:
            raise LinkClosed(
                f"{self.identity.name} takes no more requests on this link",
                retry_after_s=RETRY_AFTER_S,
            )
        self._last_request += 1
        number = self._last_request
        return number, msgspec.structs.replace(frame, request=number, budget_s=budget_s)

    def _send(self, frame: Frame, *, at_once: bool = False) -> None:
        self._link.send(frame, bulk=type(frame) in BULK, at_once=at_once)

    def _end(self, why: MidstreamerError) -> None:
        self._ended.set()
        self._calm.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(LinkClosed(why.message))
        for task in self._working.values():
            task.cancel()


def _unheard(_peer: Peer) -> None:
    """Nobody wants to know."""


async def _next(queue: asyncio.Queue[Changes], failed: asyncio.Future[Answer]) -> Changes:
    """What the queue has, else the failure that came instead."""
    if not queue.empty():
        return queue.get_nowait()
    getting = asyncio.get_running_loop().create_task(queue.get())
    either: set[asyncio.Future[Any]] = {getting, failed}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        raise failed.exception() or LinkClosed("the feed ended")
    finally:
        getting.cancel()


def _failure(error: MidstreamerError) -> Failure:
    return Failure(code=error.code, message=error.message, retry_after_s=error.retry_after_s)


def _time(budget_s: float) -> float:
    """The nearest time that may be worked on a request; what is no time at all is none."""
    return max(0.0, min(budget_s, BUDGET_S_MAX)) if math.isfinite(budget_s) else 0.0


def _name(frame: Frame) -> str:
    return type(frame).__name__
