"""The agent service: follows the change feed, holds shards and answers searches.

`agent.ownership` decides what to hold and whom to dial; this module does the I/O.  The event loop
appends points and sends answers.  Threads compare windows, because the kernels release the GIL.  A
frame of the feed is applied as a whole before other code runs: all shards have the same position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import NamedTuple

from midstreamer.agent import ownership, searching
from midstreamer.agent.config import AgentSettings
from midstreamer.agent.derived_data_limit import Derived
from midstreamer.agent.shard_loading import Library
from midstreamer.agent.shard_reports import Telling
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import BadInput, LinkClosed, MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Window
from midstreamer.domain.shard import Shard
from midstreamer.protocol import frames
from midstreamer.protocol.capabilities import Capability
from midstreamer.protocol.frames import Answer, Changes, Frame, Member, Points, Search
from midstreamer.runtime import catalogue_pages, lease_evidence
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.feed_following import Follower
from midstreamer.runtime.fleet_member import Membership
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.runtime.peer import Peer, Session
from midstreamer.runtime.tasks import awaited, supervise
from midstreamer.telemetry import logs, metrics
from midstreamer.transport.carrier import Carrier
from midstreamer_kernels import Stop

RETRY_AFTER_S = 0.05
RUNNING_PER_THREAD = 8
"""Maximum number of admitted searches for each thread: they run, or wait for a free thread. Further
searches wait in a fair queue. Of these 8 searches, one coordinator may have 4, and one client 2."""
DRAIN_TOLD_S = 5.0
"""Every so many seconds a draining agent reads all leases and logs how many shards others lack."""
DESERTED_S = 3.0
"""Seconds without any link, to sync or to a coordinator, after which a draining agent stops."""
LOOK_S = 0.25
ANSWER_SHARE = 0.95
"""Share of a request's budget that the search may use; the rest is for sending the answer back."""

log = logs.get(__name__)


class _Coordinator(NamedTuple):
    """A coordinator to which this agent keeps a link."""

    session: Session
    task: asyncio.Task[None]
    news: asyncio.Event
    """Set when the held shards have changed since the last report to this coordinator."""


class AgentService:
    """One agent. `run` serves until a drain ends or the task is cancelled; neither is an error."""

    def __init__(self, config: AgentSettings, carrier: Carrier) -> None:
        self._config = config
        self._carrier = carrier
        self._core = ownership.Core(carrier.me.name)
        self._follower = Follower(
            self, states=False, waits_max=config.waits_max, setting="agent.waits_max"
        )
        self._session = Session(
            carrier,
            config.sync,
            expect=Kind.SYNC,
            opened=self._follower.follow,
            link_age_s=config.limits.link_age_s,
        )
        self._membership = Membership(
            self._session,
            self._describe,
            self._renewed,
            self._drain_soon,
        )
        self._library = Library(
            self._session,
            self._core.counts,
            filled=self._filled,
            torn=self._torn,
            budget_s=config.load_s,
            derived=Derived(config.derived_bytes_max),
        )
        self._coordinators: dict[str, _Coordinator] = {}
        self._tellings: dict[Peer, Telling] = {}
        self.life = Lifecycle(drain_s=config.drain_s)
        """Stage and drain of the process; a `Lifecycle` passed to `run` replaces this object."""
        self._drained = asyncio.Event()
        """Set when the drain no longer waits for other agents to load this agent's shards."""
        self._reporter = lease_evidence.Reporter(
            carrier, threads=config.threads_used, engine=config.engine
        )
        self._searches = 0
        self._places = _places(config)
        self._ready = asyncio.Event()
        self._pool = ThreadPoolExecutor(config.threads_used, thread_name_prefix="search")

    @property
    def position(self) -> int:
        """Position of the change feed reached; -1 before the first change."""
        return self._follower.position

    @property
    def holdings(self) -> tuple[Shard, ...]:
        """The shards that this agent has loaded completely, so that it can search them."""
        return self._core.holdings

    def serving_reasons(self) -> list[str]:
        """Return why this agent is not serving: it drains, or has never been complete. Empty if it
        serves."""
        if self.life.draining:
            return ["draining"]
        return [] if self._ready.is_set() else self.complete_reasons()

    def complete_reasons(self) -> list[str]:
        """Return the reasons why this agent is not complete; empty when it is."""
        reasons = []
        if not self._follower.following:
            where = ", ".join(self._config.sync)
            reasons.append(f"the change feed of sync at {where} is not followed")
        if not self._membership.held():
            reasons.append("no lease is held at sync")
        if lacking := self._core.lacking:
            reasons.append(f"{lacking} of its own shards are not loaded yet")
        return reasons

    async def run(
        self, life: Lifecycle | None = None, *, ready: asyncio.Event | None = None
    ) -> None:
        """Serve until a drain is requested; then drain (`_drain`), give up the lease and stop.

        Cancelling skips the drain.
        """
        self.life = life = life or self.life
        self._ready = ready or asyncio.Event()
        loop = asyncio.get_running_loop()
        pool = ThreadPoolExecutor(self._config.threads_used, thread_name_prefix="search")
        self._pool = pool
        metrics.KERNEL_THREADS.set(self._config.threads_used)
        async with life, AsyncExitStack() as ends:
            ends.callback(pool.shutdown, wait=False, cancel_futures=True)
            await loop.run_in_executor(pool, searching.warm_up, self._config.engine)
            await ends.enter_async_context(life.background("agent.sync", self._session.run))
            ends.push_async_callback(self._membership.leave)
            await ends.enter_async_context(life.background("agent.lease", self._membership.run))
            for _ in range(self._config.loads_max):
                await ends.enter_async_context(life.background("agent.loads", self._library.run))
            life.serve()
            await life.drain_asked()
            await life.drained(self._drain())

    def _drain_soon(self, why: str) -> None:
        self.life.drain(why)

    async def _drain(self) -> None:
        """Answer searches until other agents hold all shards, then complete those in progress."""
        self._do(self._core.handle(ownership.Draining()))
        if not (self._membership.marks() and self._core.understood):
            # Old versions of sync and of agents do not know draining members. To all versions, an
            # agent without a lease owns no shards, so this agent gives up its lease.
            await self._membership.leave()
        self.life.spawn("agent.deserted", self._deserted())
        while not self._drained.is_set():
            log.info("agent.draining", left=self._core.left)
            await awaited(self._drained, DRAIN_TOLD_S)
            await self._look_at_leases()
        log.info("agent.drained", held=self._core.count)
        self._send_away()
        sessions = [coordinator.session for coordinator in self._coordinators.values()]
        await asyncio.gather(*(session.leave(self._config.drain_s) for session in sessions))

    async def _look_at_leases(self) -> None:
        """Get all leases from sync, to learn which shards other agents hold now.

        The feed does not suffice: it sends no lease in which only a position has changed.  Renewals
        (their answers have all leases) do not suffice: this agent may have given up its own lease.
        """
        peer = self._session.peer
        if peer is None or self._drained.is_set():
            return
        try:
            page = await peer.ask(frames.Survey(), budget_s=DRAIN_TOLD_S)
        except MidstreamerError as error:
            log.info("agent.leases_not_seen", detail=error.message)
            return
        if isinstance(page, frames.Surveyed):
            self._joined(page.members, page.position)

    def _send_away(self) -> None:
        """Report to coordinators of old versions that this agent holds no shards any more.

        They do not know the frame Drain, and would send searches until the drain times out.
        """
        for peer, telling in self._tellings.items():
            if Capability.DRAIN not in peer.capabilities:
                telling.end(self._core.holdings)
        for coordinator in self._coordinators.values():
            coordinator.news.set()

    async def _deserted(self) -> None:
        """End the drain when sync and all coordinators are unreachable for `DESERTED_S`."""
        loop = asyncio.get_running_loop()
        seen_s = loop.time()
        while loop.time() < seen_s + DESERTED_S:
            await asyncio.sleep(LOOK_S)
            sessions = [coordinator.session for coordinator in self._coordinators.values()]
            if any(session.linked for session in (self._session, *sessions)):
                seen_s = loop.time()
        log.info("agent.deserted", left=self._core.left)
        self._drained.set()

    # --- `Follower`, which reads the change feed, calls these methods ---

    async def begin(self, peer: Peer) -> int:
        """Survey all series and members; return the position from which to follow the feed."""
        survey = await catalogue_pages.whole(catalogue_pages.by(peer, self._config.load_s))
        counts = {summary.series: summary.count for summary in survey.series}
        self._do(self._core.handle(ownership.Joined(survey.members, survey.position)))
        surveyed = ownership.Surveyed(counts, survey.shard_points, survey.position)
        self._do(self._core.handle(surveyed))
        return survey.position

    async def begun(self, peer: Peer) -> None:
        """Do nothing: `begin` has loaded the list of series and members."""

    def apply(self, changes: Changes) -> None:
        """Apply changes of the feed: points and members."""
        points = [change for change in changes.changes if isinstance(change, Points)]
        ends = {change.column.series: change.start + len(change.column) for change in points}
        self._do(self._core.handle(ownership.Grew(ends)))
        for change in changes.changes:
            match change:
                case Points(start, column):
                    self._library.take(start, column)
                case frames.Joined(members):
                    self._joined(members, ownership.TOLD)
                case frames.Learned():
                    pass  # agents ignore changes of learning states
        self._do(self._core.handle(ownership.Reached(changes.position)))
        asyncio.get_running_loop().call_soon(self._progressed)

    def forget(self) -> None:
        """Drop all series and shards, as after a restart."""
        self._library.clear()
        for shard in self._core.holdings:
            self._report(shard, whole=False)
        self._core.reset()
        self._membership.renew_soon()
        metrics.SHARDS_HELD.set(0)

    def _progressed(self) -> None:
        if not self._ready.is_set() and not self.complete_reasons():
            self._ready.set()

    # --- these methods give events to `ownership.Core` and carry out its effects ---

    def _do(self, effects: Sequence[ownership.Effect]) -> None:
        for effect in effects:
            match effect:
                case ownership.Load(shard):
                    self._library.hold(shard, self._core.shard_points)
                case ownership.Drop(shard):
                    self._library.drop(shard)
                    log.info("shard.dropped", series=shard.series, number=shard.number)
                case ownership.Report(shard, whole):
                    self._report(shard, whole=whole)
                case ownership.Renew():
                    self._membership.renew_soon()
                case ownership.Dial(address):
                    self._dial(address)
                case ownership.Drained():
                    self._drained.set()

    def _filled(self, shard: Shard) -> None:
        self._do(self._core.handle(ownership.Filled(shard)))
        self._progressed()

    def _torn(self, shard: Shard) -> None:
        self._do(self._core.handle(ownership.Torn(shard)))

    def _report(self, shard: Shard, *, whole: bool) -> None:
        metrics.SHARDS_HELD.set(self._core.count)
        for telling in self._tellings.values():
            telling.changed(shard, whole=whole)
        for coordinator in self._coordinators.values():
            coordinator.news.set()

    def _describe(self) -> Member:
        return Member(
            name=self._carrier.me.name,
            incarnation=self._carrier.incarnation,
            address="",
            position=max(self._follower.position, 0),
            held=self._core.count,
            evidence=self._reporter.evidence(
                self.life.stage, self.complete_reasons, shards_left=self._core.left
            ),
            whole_for=self._core.whole_for,
            whole_at=self._core.whole_at,
        )

    def _renewed(self, fleet: frames.Fleet) -> None:
        self._follower.heard(fleet.position)
        self._joined(fleet.members, fleet.position)

    def _joined(self, members: tuple[Member, ...], position: int) -> None:
        self._do(self._core.handle(ownership.Joined(members, position)))
        self._hang_up()
        self._progressed()

    # --- coordinators ---

    def _dial(self, address: str) -> None:
        if not self.life.running:
            return  # this agent is stopping, so it dials no more coordinators
        news = asyncio.Event()

        async def opened(peer: Peer) -> None:
            await self._tell_all(peer, news)

        session = Session(
            self._carrier,
            address,
            expect=Kind.COORDINATOR,
            handle=self._reporter.counting(self._handle),
            opened=opened,
            link_age_s=self._config.limits.link_age_s,
        )
        running = supervise("agent.coordinator", session.run, restart=True)
        task = self.life.spawn("agent.coordinator", running)
        self._coordinators[address] = _Coordinator(session, task, news)

    def _hang_up(self) -> None:
        """Drop the sessions of coordinators that have neither a lease nor a link."""
        for address, coordinator in list(self._coordinators.items()):
            if not coordinator.session.linked and self._core.leavable(address):
                del self._coordinators[address]
                self._core.hung_up(address)
                coordinator.task.cancel()

    async def _tell_all(self, peer: Peer, news: asyncio.Event) -> None:
        """Report the held shards, and each change of them, to a coordinator until its link ends."""
        telling = self._tellings[peer] = Telling(self._core.holdings)
        try:
            while True:
                news.clear()
                await self._tell(peer, telling)
                await awaited(news, self._config.heartbeat_s)
        except LinkClosed:
            await self._look_at_leases()
        finally:
            del self._tellings[peer]

    async def _tell(self, peer: Peer, telling: Telling) -> None:
        more = True
        while more:
            await peer.drained()
            position = max(self._follower.position, 0)
            page = telling.page(position, self._searches, self._core.count, self._core.digest)
            peer.tell(page)
            more = page.more

    # --- searching ---

    async def _handle(self, peer: Peer, frame: Frame) -> Answer | None:
        if not isinstance(frame, Search):
            raise BadInput(f"an agent does not answer {type(frame).__name__}")
        self._searches += 1
        try:
            return await self._search(peer.identity.name, frame)
        finally:
            self._searches -= 1

    async def _search(self, coordinator: str, request: Search) -> frames.Found:
        deadline_s = asyncio.get_running_loop().time() + ANSWER_SHARE * request.budget_s
        origin = request.origin
        await self._follower.reached(
            request.at_least, deadline_s, identity=coordinator, origin=origin
        )
        _check(request)
        async with self._places.place(coordinator, deadline_s, origin=origin):
            search = searching.Search(
                request.specification,
                [self._library.whole(shard) for shard in request.shards],
                self._config.engine,
            )
            findings = await self._compute(search, request.windows, deadline_s)
        return frames.Found(findings=tuple(findings), position=self._follower.position)

    async def _compute(
        self, search: searching.Search, windows: tuple[Window, ...], deadline_s: float
    ) -> list[Evidence]:
        """Divide the windows among the threads; stop all threads at the deadline or on cancel."""
        stop = Stop()
        timer = asyncio.get_running_loop().call_at(deadline_s, stop.set)
        size = -(-len(windows) // self._config.threads_used) or 1
        jobs = [
            self._stepped(search.steps(windows[at : at + size], stop))
            for at in range(0, len(windows), size)
        ]
        try:
            parts = await asyncio.gather(*jobs)
        finally:
            # Set `stop` also on cancellation, so that the threads leave the kernels at once.
            stop.set()
            timer.cancel()
        return [found for part in parts for found in part]

    async def _stepped(self, steps: searching.Steps) -> list[Evidence]:
        """Run a search step by step in the threads. Each step queues behind the steps of other
        searches, so a long search does not block them."""
        loop = asyncio.get_running_loop()
        findings = None
        while findings is None:
            findings = await loop.run_in_executor(self._pool, searching.next_step(steps))
        return findings


def _places(config: AgentSettings) -> Admission:
    """Return an `Admission` that lets few searches run at once; others wait in a fair queue."""
    running = min(config.searches_max, RUNNING_PER_THREAD * config.threads_used)
    return Admission(
        running,
        line=config.searches_max - running,
        what="searches",
        queue="searches",
        setting="agent.searches_max",
        retry_after_s=RETRY_AFTER_S,
    )


def _check(request: Search) -> None:
    """Check the window lengths, as the coordinator did: kernels would read beyond a short array."""
    for window in request.windows:
        if len(window.values) != 8 * request.specification.window:
            raise BadInput(
                f"window of {len(window.values) // 8} values, specification.window ="
                f" {request.specification.window}: both must be equal"
            )
