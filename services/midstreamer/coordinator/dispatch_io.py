"""The I/O of `coordinator.dispatch`: turn its effects into frames, and frames into its events.

A search first takes a `Dispatcher.place`, because the number of searches under way is limited.  One
client holds at most half of the places.  A free place goes to the client that holds the fewest
places.
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

from midstreamer.coordinator import dispatch, dispatch_events, evidence_merging, search_batches
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import LinkClosed, MidstreamerError, RemoteProtocolError
from midstreamer.domain.series import Window
from midstreamer.domain.shard import REPLICAS, Shard
from midstreamer.domain.specification import Specification
from midstreamer.protocol.frames import Found, Holdings, Search
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.core_timer import Wakeups
from midstreamer.runtime.peer import Peer
from midstreamer.telemetry import logs, metrics, tracing

HOLDINGS_MISMATCH = "holdings_mismatch"
"""Reason for closing the link of an agent: its report of the shards that it holds is wrong. For
example, it gives another number of shards than this coordinator has recorded for the agent."""
log = logs.get(__name__)

_ANSWERED = metrics.DISPATCH_ATTEMPTS.labels("answered")
_FAILED = metrics.DISPATCH_ATTEMPTS.labels("failed")
_ABANDONED = metrics.DISPATCH_ATTEMPTS.labels("abandoned")


class Coverage(NamedTuple):
    """Counts of shards: in total, held by fewer than `REPLICAS` agents, and held by no agent.  The
    second count includes the third."""

    total: int
    underreplicated: int
    unheld: int


@dataclass(frozen=True)
class _Question:
    """A call of `Dispatcher.search` that is under way.  The future ``result`` gets the answers that
    together cover all shards, or the error with which the search fails."""

    search: Search
    result: asyncio.Future[tuple[object, ...]]
    context: contextvars.Context | None
    """The tracing context of the caller.  Each attempt of this search runs in it, so that its span
    belongs to the caller's trace.  Without it, an attempt that starts during an event of another
    search would get the trace of that search."""


@dataclass(frozen=True)
class _Coming:
    """A newer link of an agent whose older link is still in use, and the shards that the agent has
    reported on the newer link so far."""

    peer: Peer
    shards: set[Shard] = field(default_factory=set)

    def take(self, holdings: Holdings) -> None:
        """Apply one page of the report that the agent sends on its newer link."""
        self.shards.update(holdings.shards)
        self.shards.difference_update(holdings.dropped)


class Dispatcher:
    """Searches shards at the connected agents.  `run` must run while callers use `search`."""

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
        """By agent name, a newer link of an agent while its older link is still in use."""
        self._closing: weakref.WeakSet[Peer] = weakref.WeakSet()
        """Links that are being closed or have been replaced.  Reports that arrive over these links
        are ignored."""
        self._questions: dict[int, _Question] = {}
        self._keys = itertools.count(1)
        self._wakeups = Wakeups(
            self._core.next_wakeup_s, lambda now_s: self._handle(dispatch_events.Tick(), now_s)
        )
        self._tasks = asyncio.TaskGroup()
        self._sending: dict[int, asyncio.Task[None]] = {}
        """For each attempt under way, the task that sends it and awaits its answer."""
        self._overdue = 0
        """How many of the overdue attempts, `Dispatch.overdue`, the metric has counted so far."""

    def coverage(self, shards: Iterable[Shard]) -> Coverage:
        """Count how many of these shards are held by too few connected agents, or by none."""
        holders = [self._core.holders(shard) for shard in shards]
        few = sum(count < REPLICAS for count in holders)
        return Coverage(len(holders), few, holders.count(0))

    def unheld(self, shards: Sequence[Shard]) -> list[Shard]:
        """Return those of the given shards that no connected agent reports."""
        return [shard for shard in shards if not self._core.held(shard)]

    def place(self, identity: str, deadline_s: float) -> AbstractAsyncContextManager[None]:
        """Return a context manager that waits for a place and holds it for one search of a client.

        It raises Overloaded when no place becomes free before the deadline.
        """
        return self._places.place(identity, deadline_s)

    def holds(self, shards: Iterable[Shard]) -> bool:
        """Return whether connected agents report all of these shards."""
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
        """Search these shards and return one Evidence for each window.

        ``at_least`` is the feed position that the agents should have reached.  ``origin`` is the
        client that sent the request.
        """
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
                dispatch_events.Asked(
                    key, tuple(shards), at_least, deadline_s, search_batches.room_beside(windows)
                )
            )
            answers = await result
        finally:
            del self._questions[key]
            self._handle(dispatch_events.Withdrawn(key))
        return evidence_merging.merge(
            specification, windows, cast("Sequence[Sequence[Evidence]]", answers)
        )

    async def run(self) -> None:
        """Send the attempts of all searches, and check their timers, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._wakeups.run(), name="dispatch.watch")

    # --- agents ---

    def reported(self, peer: Peer, holdings: Holdings) -> None:
        """Handle a Holdings frame: an agent reports which shards it holds.

        When one agent process opens a second link, the first link stays in use until the agent has
        reported all its shards on the second link, so that no attempt fails.  The link of a new
        agent process replaces the old link at once.
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
                self._handle(dispatch_events.LinkLost(name))
            coming = self._coming.pop(name, None)
            self._peers[name] = peer
            log.info("agent.joined", agent=name)
            if coming is not None and coming.peer is peer:
                # The older link ended while the agent was sending a report over this newer link.
                # `coming` has the earlier pages of this report: use them with the present page.
                coming.take(holdings)
                holdings = msgspec.structs.replace(holdings, shards=tuple(coming.shards))
            self._handle(_report(name, holdings))

    def _take_over(self, peer: Peer, holdings: Holdings) -> None:
        """Collect the pages of the report that an agent sends on its newer link.  After the last
        page, use this link for searches instead of the older one."""
        name = peer.identity.name
        coming = self._coming.get(name)
        if coming is None or coming.peer is not peer:
            coming = self._coming[name] = _Coming(peer)
        coming.take(holdings)
        if holdings.more and len(coming.shards) <= self._core.limits.shards_max:
            return
        del self._coming[name]
        # Reports may still arrive over the older link.  Ignore them: otherwise such a report would
        # make the older link the link in use again.
        self._closing.add(self._peers[name])
        self._peers[name] = peer
        known = self._core.shards_of(name)
        difference = msgspec.structs.replace(
            holdings,
            shards=tuple(coming.shards - known),
            dropped=tuple(known - coming.shards),
        )
        self._handle(_report(name, difference))

    def lost(self, peer: Peer) -> None:
        """Handle the end of the connection to an agent."""
        name = peer.identity.name
        coming = self._coming.get(name)
        if coming is not None and coming.peer is peer:
            del self._coming[name]
        if self._peers.get(name) is peer:
            del self._peers[name]
            log.info("agent.lost", agent=name)
            self._handle(dispatch_events.LinkLost(name))

    def leaves(self, peer: Peer) -> None:
        """Handle Drain from an agent that is about to stop: send the agent no more searches.  The
        agent still answers the searches that it has got."""
        name = peer.identity.name
        if self._peers.get(name) is peer:
            log.info("agent.leaves", agent=name)
            self._handle(dispatch_events.AgentLeaves(name))

    # --- carrying out ---

    def _handle(self, event: dispatch_events.Event, now_s: float | None = None) -> None:
        now_s = asyncio.get_running_loop().time() if now_s is None else now_s
        for effect in self._core.handle(event, now_s):
            match effect:
                case dispatch_events.Send():
                    self._begin(effect)
                case dispatch_events.Abandon(attempt):
                    if (sending := self._sending.get(attempt)) is not None:
                        sending.cancel()
                        _ABANDONED.inc()
                case dispatch_events.Finish(key, answers):
                    self._settle(key, answers)
                case dispatch_events.Fail(key, error):
                    self._settle(key, error)
                case dispatch_events.HangUp(agent, reason):
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
        self._handle(dispatch_events.LinkLost(agent))
        self._tasks.create_task(peer.close(HOLDINGS_MISMATCH, reason), name="dispatch.hang_up")

    def _begin(self, send: dispatch_events.Send) -> None:
        question = self._questions.get(send.key)
        # Copy the context for each attempt, so that no attempt's span is the parent of another's.
        context = question.context.copy() if question and question.context else None
        task = self._tasks.create_task(self._send(send), name="dispatch.send", context=context)
        self._sending[send.attempt] = task
        task.add_done_callback(lambda _: self._sending.pop(send.attempt))

    async def _send(self, send: dispatch_events.Send) -> None:
        try:
            with tracing.span("attempt", agent=send.agent, shards=len(send.shards)):
                answer = await self._ask(send)
            event: dispatch_events.Event = dispatch_events.Answered(send.attempt, answer)
            _ANSWERED.inc()
        except MidstreamerError as error:
            event = dispatch_events.Failed(send.attempt, error)
            _FAILED.inc()
        self._handle(event)

    async def _ask(self, send: dispatch_events.Send) -> tuple[Evidence, ...]:
        question, peer = self._questions.get(send.key), self._peers.get(send.agent)
        if question is None or peer is None:
            raise LinkClosed(f"the link to {send.agent} or the request of the client has ended")
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
                f"{send.agent} answered a Search of {len(search.windows)} windows with a frame"
                f" {type(answer).__name__} that does not have one finding for each window"
            )
        return answer.findings


def _same_process(first: Peer, second: Peer) -> bool:
    return bool(first.incarnation) and first.incarnation == second.incarnation


def _report(name: str, holdings: Holdings) -> dispatch_events.Reported:
    return dispatch_events.Reported(
        name,
        holdings.position,
        holdings.shards,
        holdings.busy,
        holdings.dropped,
        None if holdings.more else holdings.count,
        holdings.digest,
    )
