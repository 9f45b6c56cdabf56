"""Requests and answers over one link.

A `Peer` wraps one link.  `Peer.ask` sends a request and awaits its answer, `Peer.tell` sends a
frame that needs no answer, `Peer.follow` reads the many answers of one Tail.  Received frames go to
the `Handle` of this side: requests each in their own task, at most ``in_flight_max`` at once,
statements (frames without an answer) one after another in the order of their arrival.

`protocol.link_exchange` decides what happens to a request; this module does the I/O.  Nothing is
retried here, because only the caller knows whether a request may be sent twice.  `runtime.peer`
creates peers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from midstreamer.domain import errors
from midstreamer.domain.errors import (
    LinkClosed,
    MidstreamerError,
    Overloaded,
    RemoteProtocolError,
)
from midstreamer.domain.identity import Identity
from midstreamer.protocol import frames, link_exchange, request_states
from midstreamer.protocol.frames import Answer, Changes, Failure, Frame, Request, Tail
from midstreamer.protocol.link_exchange import FOLLOW_MAX, IN_FLIGHT_MAX, Exchange
from midstreamer.runtime import queue_measuring
from midstreamer.telemetry import label_values, logs, metrics, tracing
from midstreamer.transport.address import Scheme
from midstreamer.transport.carrier import Link

log = logs.get(__name__)

__all__ = ["FOLLOW_MAX", "IN_FLIGHT_MAX", "Handle", "OnPeer", "Peer"]

CLOSE_TIMEOUT_S = 1.0
"""Seconds for which `Peer.close` waits for the handling of the last received statement."""

_AWAITED = frozenset({request_states.Statement, request_states.Breach})
"""Kinds of effects that `Peer.run` awaits; meanwhile it reads no further frame."""

BULK: frozenset[type[Frame]] = frozenset(
    {frames.Append, frames.Write, frames.Surveyed, frames.Loaded, frames.Recalled, frames.Changes}
)
"""Frames that may be large. They use the second stream, so that small frames need not wait for
them. All frames of one type use the same stream and so keep their order."""

Handle = Callable[["Peer", Frame], Awaitable[Answer | None]]
OnPeer = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One open link to another process: sends requests to it and answers its requests."""

    def __init__(
        self,
        link: Link,
        me: Identity,
        handle: Handle | None = None,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._me = me
        self._handle = handle
        self._exchange = Exchange(
            me, link.peer, link.capabilities, in_flight_max=in_flight_max, follow_max=FOLLOW_MAX
        )
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._following: dict[int, asyncio.Queue[Changes]] = {}
        self._working: dict[int, asyncio.Task[None]] = {}
        self._running: asyncio.Task[None] | None = None
        self._reading = False
        """Whether `run` waits for a frame. Only then may `_take_on_arrival` handle a frame."""
        self._ended = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self.on_drain: Callable[[Peer], None] = _unheard
        """Called when the process at the other side of the link sends Drain."""
        self._calm = asyncio.Event()
        queue_measuring.watch(self)

    @property
    def identity(self) -> Identity:
        """Identity of the other process, from its certificate."""
        return self._link.peer

    @property
    def incarnation(self) -> str:
        """Incarnation of the other process, from its handshake; empty if it is the server."""
        return self._link.incarnation

    @property
    def capabilities(self) -> frozenset[str]:
        """Capabilities of the other process (`protocol.capabilities`)."""
        return self._link.capabilities

    @property
    def scheme(self) -> Scheme:
        """The carrier of the link."""
        return self._link.scheme

    @property
    def silence(self) -> float:
        """Time since the last received packet, as a share of the idle timeout."""
        return self._link.silence

    @property
    def closed(self) -> bool:
        """Whether the link has ended."""
        return self._ended.is_set()

    @property
    def busy(self) -> bool:
        """Whether requests are under way, in either direction; a Tail does not count."""
        return self._exchange.busy

    @property
    def load(self) -> tuple[int, int]:
        """(requests of the other side that are worked on now, maximum number of such requests at
        once)."""
        return (0, 0) if self.closed else (len(self._working), self._exchange.in_flight_max)

    @property
    def draining(self) -> bool:
        """Whether the other side sent Drain."""
        return self._exchange.heard

    @property
    def leaving(self) -> bool:
        """Whether the other side announced, by Drain, that its process is about to stop."""
        return self._exchange.leaving

    async def ask(self, frame: Request, *, budget_s: float | None = None) -> Answer:
        """Send a request and return its answer; a Failure is raised as the error that it names.

        When the caller is cancelled or the budget expires, the other side cancels the request too.
        """
        loop, core = self._loop, self._exchange
        request = core.ask(
            frame,
            loop.time(),
            budget_s=frame.budget_s if budget_s is None else budget_s,
            trace=tracing.current(),
        )
        number, sent = request.request, False
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting[number] = answer
        began_s, result = loop.time(), label_values.CANCELLED
        try:
            # Frames wait for others to share a datagram. The only open request would wait in vain.
            self._send(request, flush=core.asked == 1)
            sent = True
            if core.next_wakeup_s() < self._timer_s:
                self._set_timer()
            answered = await answer
            result = label_values.OK
            return answered
        except MidstreamerError as error:
            result = error.code
            raise
        finally:
            del self._waiting[number]
            self._carry_out(core.leave(number, sent=sent))
            took_s = loop.time() - began_s
            metrics.CALL_LATENCY_S.labels(_name(frame), result).observe(took_s, tracing.exemplar())

    def drain(self, *, leaving: bool = False) -> None:
        """Send Drain, if the peer supports it, so that the peer sends its requests elsewhere."""
        if not self.closed:
            self._carry_out(self._exchange.drain(leaving=leaving))

    async def settled(self) -> None:
        """Return when no request is under way and, because of `drain`, none can come.

        Return also when the link has ended.  A peer that does not support Drain may still send a
        request: check `busy` again later.
        """
        await self._calm.wait()

    def tell(self, frame: Frame) -> None:
        """Send a frame that needs no answer, or one of the many answers of a Tail.

        Raises Overloaded or LinkClosed; Unsupported if the peer does not know such a frame.
        """
        link_exchange.require(frame, self.identity, self.capabilities)
        self._send(frame)

    async def drained(self) -> None:
        """Wait while many bytes are unsent; a sender of many frames awaits this (back-pressure)."""
        await self._link.drained()

    async def follow(self, frame: Tail) -> AsyncIterator[Changes]:
        """Yield the changes after a position, for as long as the link is open.

        Ends by raising LinkClosed, or Overloaded when the reader is too slow. In both cases follow
        again from the last position that was read; no change is lost.
        """
        core = self._exchange
        request = core.ask(frame, self._loop.time(), budget_s=frame.budget_s)
        number, sent = request.request, False
        queue: asyncio.Queue[Changes] = asyncio.Queue()
        failed: asyncio.Future[Answer] = self._loop.create_future()
        self._following[number], self._waiting[number] = queue, failed
        try:
            self._send(request)
            sent = True
            while True:
                changes = await _next(queue, failed)
                core.read(number)
                yield changes
        finally:
            del self._following[number], self._waiting[number]
            self._carry_out(core.leave(number, sent=sent))
            if not failed.cancel() and not failed.cancelled():
                failed.exception()  # marks it as retrieved, so that asyncio logs no warning

    async def wait_closed(self) -> None:
        """Return when the link has ended."""
        await self._ended.wait()

    async def close(self, code: str = "", message: str = "") -> None:
        """Close the link; with a code, first send the other side a Refusal with the reason."""
        await self._link.close(code, message)
        running = self._running
        if running is not None and running is not asyncio.current_task():
            _, late = await asyncio.wait({running}, timeout=CLOSE_TIMEOUT_S)
            for task in late:
                task.cancel()

    def start(self) -> None:
        """Start `run` in a task, which ends with the link; `close` ends and awaits the task."""
        self._running = self._loop.create_task(self.run(), name="peer.run")

    async def run(self) -> None:
        """Read frames until the link ends; the creator of a peer must run this."""
        metrics.LINKS.labels(self.identity.kind).inc()
        why: MidstreamerError = LinkClosed(f"the link to {self.identity.name} is closed")
        self._link.deliver_to(self._take_on_arrival)
        try:
            while True:
                self._reading = True
                frame = await self._link.receive()
                self._reading = False
                await self._take(frame)
        except MidstreamerError as error:
            why = error
        finally:
            metrics.LINKS.labels(self.identity.kind).dec()
            self._end(why)
            await self._link.close()

    # --- received frames ---

    def _take_on_arrival(self, frame: Frame) -> bool:
        """Handle a frame without awaiting; return False if it must be received by `run` instead."""
        if not self._reading:
            return False
        effects = self._exchange.take(frame, self._loop.time())
        if effects and type(effects[0]) in _AWAITED:
            return False  # this effect must be awaited, which only `run` can do
        self._carry_out(effects)
        return True

    async def _take(self, frame: Frame) -> None:
        effects = self._exchange.take(frame, self._loop.time())
        first = effects[0] if effects else None
        match first:
            case request_states.Statement():
                await self._state(frame)
            case request_states.Breach(code, message):
                sender = self.identity
                metrics.REFUSED_FRAMES.labels(_name(frame), sender.kind).inc()
                log.warning("frame.refused", peer=sender.name, frame=_name(frame), reason=code)
                await self.close(code, message)
                raise RemoteProtocolError(message)
            case _:
                self._carry_out(effects)

    async def _state(self, frame: Frame) -> None:
        if self._handle is not None:
            try:
                await self._handle(self, frame)
            except Exception:
                log.exception("statement.failed", frame=_name(frame), peer=self.identity.name)

    def _carry_out(self, effects: list[request_states.Effect]) -> None:
        for effect in effects:
            _DOING[type(effect)](self, effect)

    def _resolve(self, effect: request_states.Resolve) -> None:
        waiting = self._waiting.get(effect.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(effect.answer)

    def _fail(self, effect: request_states.Fail) -> None:
        waiting = self._waiting.get(effect.number)
        if waiting is not None and not waiting.done():
            waiting.set_exception(effect.error)

    def _pass_on(self, effect: request_states.Tell) -> None:
        self._following[effect.number].put_nowait(effect.changes)

    def _post(self, effect: request_states.Send) -> None:
        """Send a frame that the exchange decided to send: an answer, Cancel or Drain."""
        frame = effect.frame
        try:
            try:
                self._send(frame, flush=effect.flush)
            except errors.LocalProtocolError as error:  # frame too large: send a Failure instead
                self._send(link_exchange.failure(getattr(frame, "request", 0), error))
        except Overloaded:
            # Too much is unsent, because the peer does not read. Its request will time out there.
            log.warning("answer.dropped", frame=_name(frame), peer=self.identity.name)
        except LinkClosed:
            pass  # the link has ended, so nobody waits for the frame

    def _skip(self, effect: request_states.Skip) -> None:
        metrics.SKIPPED_FRAMES.labels(self.identity.kind).inc()
        log.info("frame.unknown", peer=self.identity.name, frame=effect.name)

    def _heard(self, _effect: request_states.Heard) -> None:
        self.on_drain(self)

    def _settled(self, _effect: request_states.Settled) -> None:
        self._calm.set()

    # --- request work ---

    def _begin(self, effect: request_states.Begin) -> None:
        request = effect.request
        task = self._loop.create_task(self._work(request))
        self._working[request.request] = task
        if self._exchange.next_wakeup_s() < self._timer_s:
            self._set_timer()

    def _stop(self, effect: request_states.Stop) -> None:
        request = effect.request
        task = self._working.get(request.request)
        if task is not None:
            now_s = self._loop.time()
            # Needed, because `_work` skips its `finally` if cancelled before its first step.
            task.add_done_callback(lambda done: self._worked(request, done, None, now_s))
            task.cancel()

    async def _work(self, request: Request) -> None:
        began_s, task = self._loop.time(), self._working[request.request]
        answer: Answer | None = None
        with tracing.span(_name(request), parent=request.trace, peer=str(self.identity.kind)):
            try:
                answer = await self._answered(request)
            finally:
                # A done callback of the task would send the answer one loop iteration later.
                self._worked(request, task, answer, began_s)

    def _worked(
        self, request: Request, task: asyncio.Task[None], answer: Answer | None, began_s: float
    ) -> None:
        """Record that the work on a request has ended, and send its answer."""
        number = request.request
        if self._working.get(number) is not task:
            return
        del self._working[number]
        effects = self._exchange.worked(number, answer)
        self._carry_out(effects)
        if effects and isinstance(sent := effects[0], request_states.Send):
            result = sent.frame.code if isinstance(sent.frame, Failure) else label_values.OK
            took_s = self._loop.time() - began_s
            metrics.REQUEST_LATENCY_S.labels(_name(request), result).observe(
                took_s, tracing.exemplar()
            )

    async def _answered(self, request: Request) -> Answer | None:
        if self._handle is None:
            return link_exchange.failure(0, errors.BadInput(f"{self._me.name} answers no requests"))
        try:
            return await self._handle(self, request)
        except MidstreamerError as error:
            return link_exchange.failure(0, error)
        except Exception:
            log.exception("request.failed", frame=_name(request), peer=self.identity.name)
            return link_exchange.failure(
                0, MidstreamerError(f"{_name(request)} failed at {self._me.name}")
            )

    # --- small pieces ---

    def _send(self, frame: Frame, *, flush: bool = False) -> None:
        self._link.send(frame, bulk=type(frame) in BULK, flush=flush)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = self._exchange.next_wakeup_s()
        waits = self._timer_s < math.inf
        self._timer = self._loop.call_at(self._timer_s, self._tick) if waits else None

    def _tick(self) -> None:
        self._timer, self._timer_s = None, math.inf
        self._carry_out(self._exchange.tick(self._loop.time()))
        self._set_timer()

    def _end(self, why: MidstreamerError) -> None:
        self._ended.set()
        self._reading = False
        self._carry_out(self._exchange.end(why.message))
        self._set_timer()


_DOING: dict[type[request_states.Effect], Callable[[Peer, Any], None]] = {
    request_states.Send: Peer._post,  # noqa: SLF001
    request_states.Resolve: Peer._resolve,  # noqa: SLF001
    request_states.Fail: Peer._fail,  # noqa: SLF001
    request_states.Tell: Peer._pass_on,  # noqa: SLF001
    request_states.Begin: Peer._begin,  # noqa: SLF001
    request_states.Stop: Peer._stop,  # noqa: SLF001
    request_states.Skip: Peer._skip,  # noqa: SLF001
    request_states.Heard: Peer._heard,  # noqa: SLF001
    request_states.Settled: Peer._settled,  # noqa: SLF001
}
"""For each kind of effect: the method of `Peer` that carries it out. Statement and Breach are not
in the table, because `Peer._take` handles them."""


def _unheard(_peer: Peer) -> None:
    """Ignore a Drain: the default of `Peer.on_drain`."""


async def _next(queue: asyncio.Queue[Changes], failed: asyncio.Future[Answer]) -> Changes:
    """Return the next queued changes; if none are queued and the Tail fails, raise its error."""
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


def _name(frame: Frame) -> str:
    return type(frame).__name__
