"""Dispatch carried out: the core's effects become frames, frames become its events.

A request first takes a `Dispatcher.place`: one client holds at most half of them, and the next
that is free goes to the client with the fewest.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import weakref
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import msgspec

from midstreamer.coordinator import dispatch, events, merging, search_batches
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import LinkClosed, MidstreamerError, RemoteProtocolError
from midstreamer.domain.series import Window
from midstreamer.domain.shard import REPLICAS, Shard
from midstreamer.domain.specification import Specification
from midstreamer.protocol.frames import Found, Holdings, Search
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.peer import Peer
from midstreamer.runtime.wakeups import Wakeups
from midstreamer.telemetry import logs, metrics, tracing

HOLDINGS_MISMATCH = "holdings_mismatch"
"""Why a link was closed: what the agent says it holds is not what is known of it here."""
log = logs.get(__name__)

_ANSWERED = metrics.DISPATCH_ATTEMPTS.labels("answered")
_FAILED = metrics.DISPATCH_ATTEMPTS.labels("failed")
_ABANDONED = metrics.DISPATCH_ATTEMPTS.labels("abandoned")


class Coverage(NamedTuple):
    """Shards: all, those that fewer agents hold than should, those that none holds."""

    total: int
    underreplicated: int
    unheld: int


@dataclass(frozen=True)
class _Question:
    search: Search
    result: asyncio.Future[tuple[object, ...]]
    context: contextvars.Context | None
    """The span of who asks goes on in its attempts, whatever event sends them."""


@dataclass(frozen=True)
class _Coming:
    """A newer link of an agent, and what was told on it so far."""

    peer: Peer
    shards: set[Shard] = field(default_factory=set)

    def take(self, holdings: Holdings) -> None:
        """Take one page in."""
        self.shards.update(holdings.shards)
        self.shards.difference_update(holdings.dropped)


class Dispatcher:
    """Asks the agents in reach; `run` it beside its callers."""

    def __init__(self, limits: dispatch.Limits, *, requests_max: int) -> None:
        self._core = dispatch.Dispatch(limits)
        self._places = Admission(
            requests_max,
            what="requests under way",
            queue="matches",
            setting="coordinator.requests_max",
            retry_after_s=limits.pause_s,
        )
        self._peers: dict[str, Peer] = {}
        self._coming: dict[str, _Coming] = {}
        """Newer links of agents whose older one still serves."""
        self._closing: weakref.WeakSet[Peer] = weakref.WeakSet()
        """What these still say is not taken in."""
        self._questions: dict[int, _Question] = {}
        self._keys = itertools.count(1)
        self._wakeups = Wakeups(
            self._core.next_wakeup_s, lambda now_s: self._handle(events.Tick(), now_s)
        )
        self._tasks = asyncio.TaskGroup()
        self._sending: dict[int, asyncio.Task[None]] = {}
        """The task of each attempt under way."""
        self._overdue = 0
        """Attempts counted as overdue."""

    def coverage(self, shards: Iterable[Shard]) -> Coverage:
        """By how many agents in reach each of these shards is held."""
        holders = [self._core.holders(shard) for shard in shards]
        few = sum(count < REPLICAS for count in holders)
        return Coverage(len(holders), few, holders.count(0))

    def unheld(self, shards: Sequence[Shard]) -> list[Shard]:
        """Those that no agent in reach reports."""
        return [shard for shard in shards if not self._core.held(shard)]

    def place(self, identity: str, deadline_s: float) -> AbstractAsyncContextManager[None]:
        """A place for one search of a client; Overloaded when none comes free in time."""
        return self._places.place(identity, deadline_s)

    def holds(self, shards: Iterable[Shard]) -> bool:
        """Whether agents in reach report all of these."""
        return all(map(self._core.held, shards))

    async def search(
        self,
        specification: Specification,
        windows: tuple[Window, ...],
        shards: Sequence[Shard],
        *,
        at_least: int,
        deadline_s: float,
        origin: str,
    ) -> list[Evidence]:
        """Evidence over all these shards, for each window; ``origin`` is the client that asks."""
        key = next(self._keys)
        search = Search(
            specification=specification,
            windows=windows,
            shards=(),
            at_least=at_least,
            origin=origin,
        )
        result: asyncio.Future[tuple[object, ...]] = asyncio.get_running_loop().create_future()
        self._questions[key] = _Question(search, result, tracing.context())
        try:
            self._handle(
                events.Asked(
                    key, tuple(shards), at_least, deadline_s, search_batches.room_beside(windows)
                )
            )
            answers = await result
        finally:
            del self._questions[key]
            self._handle(events.Withdrawn(key))
        return merging.merge(specification, windows, cast("Sequence[Sequence[Evidence]]", answers))

    async def run(self) -> None:
        """Carry searches out until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._wakeups.run(), name="dispatch.watch")

    # --- agents ---

    def reported(self, peer: Peer, holdings: Holdings) -> None:
        """An agent said what it holds.

        A second link of the same process takes over once everything was told on it, so that
        nothing under way fails.  A link of a new process replaces the old one at once.
        """
        name = peer.identity.name
        if peer in self._closing or peer.leaving:
            return
        present = self._peers.get(name)
        if present is peer:
            self._handle(_report(name, holdings))
        elif present is not None and not present.closed and _same_process(present, peer):
            self._take_over(peer, holdings)
        else:
            if present is not None:
                self._handle(events.LinkLost(name))
            coming = self._coming.pop(name, None)
            self._peers[name] = peer
            log.info("agent.joined", agent=name)
            if coming is not None and coming.peer is peer:  # the older link ended meanwhile
                coming.take(holdings)
                holdings = msgspec.structs.replace(holdings, shards=tuple(coming.shards))
            self._handle(_report(name, holdings))

    def _take_over(self, peer: Peer, holdings: Holdings) -> None:
        """Gather what a newer link tells; with the last page it becomes the one to ask on."""
        name = peer.identity.name
        coming = self._coming.get(name)
        if coming is None or coming.peer is not peer:
            coming = self._coming[name] = _Coming(peer)
        coming.take(holdings)
        if holdings.more and len(coming.shards) <= self._core.limits.shards_max:
            return
        del self._coming[name]
        self._closing.add(self._peers[name])  # else its next heartbeat would take over again
        self._peers[name] = peer
        known = self._core.shards_of(name)
        told = msgspec.structs.replace(
            holdings,
            shards=tuple(coming.shards - known),
            dropped=tuple(known - coming.shards),
        )
        self._handle(_report(name, told))

    def lost(self, peer: Peer) -> None:
        """The connection of an agent ended."""
        name = peer.identity.name
        coming = self._coming.get(name)
        if coming is not None and coming.peer is peer:
            del self._coming[name]
        if self._peers.get(name) is peer:
            del self._peers[name]
            log.info("agent.lost", agent=name)
            self._handle(events.LinkLost(name))

    def leaves(self, peer: Peer) -> None:
        """An agent is about to stop: it answers what it was asked and is asked nothing more."""
        name = peer.identity.name
        if self._peers.get(name) is peer:
            log.info("agent.leaves", agent=name)
            self._handle(events.AgentLeaves(name))

    # --- carrying out ---

    def _handle(self, event: events.Event, now_s: float | None = None) -> None:
        now_s = asyncio.get_running_loop().time() if now_s is None else now_s
        for effect in self._core.handle(event, now_s):
            match effect:
                case events.Send():
                    self._begin(effect)
                case events.Abandon(attempt):
                    if (sending := self._sending.get(attempt)) is not None:
                        sending.cancel()
                        _ABANDONED.inc()
                case events.Finish(key, answers):
                    self._settle(key, answers)
                case events.Fail(key, error):
                    self._settle(key, error)
                case events.HangUp(agent, reason):
                    self._hang_up(agent, reason)
        if self._core.overdue != self._overdue:
            metrics.DISPATCH_OVERDUE.inc(self._core.overdue - self._overdue)
            self._overdue = self._core.overdue
        self._wakeups.changed()

    def _settle(self, key: int, outcome: tuple[object, ...] | MidstreamerError) -> None:
        question = self._questions.get(key)
        if question is None or question.result.done():
            return
        if isinstance(outcome, MidstreamerError):
            question.result.set_exception(outcome)
        else:
            question.result.set_result(outcome)

    def _hang_up(self, agent: str, reason: str) -> None:
        peer = self._peers.pop(agent, None)
        if peer is None:
            return
        self._closing.add(peer)
        log.warning("agent.known_wrongly", agent=agent, detail=reason)
        self._handle(events.LinkLost(agent))
        self._tasks.create_task(peer.close(HOLDINGS_MISMATCH, reason), name="dispatch.hang_up")

    def _begin(self, send: events.Send) -> None:
        question = self._questions.get(send.key)
        # Each in a copy: what one attempt opens there is not below what another does.
        context = question.context.copy() if question and question.context else None
        task = self._tasks.create_task(self._send(send), name="dispatch.send", context=context)
        self._sending[send.attempt] = task
        task.add_done_callback(lambda _: self._sending.pop(send.attempt))

    async def _send(self, send: events.Send) -> None:
        try:
            with tracing.span("attempt", agent=send.agent, shards=len(send.shards)):
                answer = await self._ask(send)
            event: events.Event = events.Answered(send.attempt, answer)
            _ANSWERED.inc()
        except MidstreamerError as error:
            event = events.Failed(send.attempt, error)
            _FAILED.inc()
        self._handle(event)

    async def _ask(self, send: events.Send) -> tuple[Evidence, ...]:
        question, peer = self._questions.get(send.key), self._peers.get(send.agent)
        if question is None or peer is None:
            raise LinkClosed(f"{send.agent} or whoever asked is gone")
        search = question.search
        budget_s = max(0.0, send.deadline_s - asyncio.get_running_loop().time())
        request = Search(
            specification=search.specification,
            windows=search.windows,
            shards=send.shards,
            at_least=search.at_least,
            origin=search.origin,
        )
        answer = await peer.ask(request, budget_s=budget_s)
        if not isinstance(answer, Found) or len(answer.findings) != len(search.windows):
            raise RemoteProtocolError(
                f"{send.agent} answered a Search of {len(search.windows)} windows with"
                f" {type(answer).__name__}"
            )
        return answer.findings


def _same_process(one: Peer, other: Peer) -> bool:
    return bool(one.incarnation) and one.incarnation == other.incarnation


def _report(name: str, holdings: Holdings) -> events.Reported:
    return events.Reported(
        name,
        holdings.position,
        holdings.shards,
        holdings.busy,
        holdings.dropped,
        None if holdings.more else holdings.count,
        holdings.digest,
    )
