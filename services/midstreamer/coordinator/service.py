"""The coordinator service: clients and agents connect to it, and it connects to sync.

The steps of a Match: check it, wait until the catalogue has reached the requested feed position,
search at the agents (`dispatch_io`), merge, `reasoning.decide` with one state for all windows,
write through the outbox, answer.  An Append is checked and goes to the outbox.  The process only
keeps data that sync sent (`store_mirror`, `states`) and writes that wait for sync.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from midstreamer import reasoning
from midstreamer.coordinator import dispatch, listeners, request_checks
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.dispatch_io import Dispatcher
from midstreamer.coordinator.intake import Intake
from midstreamer.coordinator.listeners import Entrances
from midstreamer.coordinator.outbox_writer import Writer, limits_of
from midstreamer.coordinator.probes import Readiness
from midstreamer.coordinator.spool import Record, Spool
from midstreamer.coordinator.state_requests import RECALL_S, Recaller
from midstreamer.coordinator.states import States
from midstreamer.coordinator.store_mirror import Catalogue
from midstreamer.coordinator.stored_items import Item
from midstreamer.domain.decision import Decision, Evidence
from midstreamer.domain.errors import BadInput, DeadlineExceeded, Overloaded, Unavailable
from midstreamer.domain.identity import Identity, Kind
from midstreamer.domain.state import State
from midstreamer.protocol import frames
from midstreamer.protocol.encoded_sizes import decision_bytes_max
from midstreamer.protocol.frames import Answer, Changes, Frame, Member
from midstreamer.runtime import catalogue_pages, lease_evidence
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.feed_following import UNKNOWN, Follower
from midstreamer.runtime.fleet_member import Membership
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.runtime.peer import Listener, Peer, Session, listen
from midstreamer.runtime.places import Shares
from midstreamer.telemetry import logs, metrics, tracing
from midstreamer.transport import address
from midstreamer.transport.carrier import Carrier

ANSWER_SHARE = 0.95
"""Share of a request's budget for computing the answer; the rest is for sending the answer."""
RETRY_AFTER_S = 0.05
RELAYS_MAX = 4
"""Maximum requests passed on to sync at once. So their unsent answers take at most 8 MB. With 16 MB
unsent on the link, sync would drop every further answer, even the answer to a lease renewal."""
SURVEY_S = 30.0
FLUSH_S = 5.0
"""Timeout in seconds for writing the outbox to sync when `run` ends."""
GRACE_S = 1.0
"""Seconds for which a draining coordinator still answers peers that do not know the Drain frame, so
that they have time to find another coordinator."""
STOPPING_S = 0.25
CALLERS = (Kind.CLIENT, Kind.OPERATOR)
DECIDED_AT_ONCE = 16
"""Number of windows to decide before yielding to other tasks of the event loop."""

log = logs.get(__name__)


class CoordinatorService:
    """One coordinator. `run` serves until a drain is requested, or until `run` is cancelled."""

    def __init__(self, config: CoordinatorSettings, carrier: Carrier) -> None:
        self._config = config
        self._carrier = carrier
        self._catalogue = Catalogue()
        self._states = States(config.states_bytes_max)
        # Clients get half of the requests in flight on the link to sync; our writes get the rest.
        relayed_max = max(1, config.limits.in_flight_max // 2)
        self._recaller = Recaller(self._states, self._recall, at_once=max(1, relayed_max // 2))
        self._follower = Follower(self, waits_max=config.waits_max, setting="coordinator.waits_max")
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
            self._joined,
            self._drain_soon,
        )
        self._dispatcher = Dispatcher(
            dispatch.Limits(patience_s=config.patience_s), requests_max=config.requests_max
        )
        self._match_bytes = Shares(config.matches_bytes_max)
        self._relays = Admission(
            RELAYS_MAX,
            line=relayed_max,
            what="requests passed on to sync",
            setting="RELAYS_MAX",
            retry_after_s=RETRY_AFTER_S,
        )
        self._writer = Writer(self._write, limits_of(config))
        self._spool = _spool_of(config)
        self._intake = Intake(self._writer, self._spool)
        self._readiness = Readiness(
            config.sync,
            self._session,
            self._follower,
            self._membership,
            self._intake,
            self._dispatcher,
            self._catalogue,
        )
        self._reporter = lease_evidence.Reporter(carrier)
        self._server: Entrances | None = None
        self.life = Lifecycle(drain_s=config.drain_s)
        """Holds the stage of this process and can drain it. A `life` given to `run` replaces it."""
        self._refusing = False
        """True late in a drain: all requests are refused, so that clients ask elsewhere."""
        self._ready = asyncio.Event()

    @property
    def address(self) -> str:
        """``host:port`` that the listener is bound to; empty before it listens."""
        return self._server.address if self._server else ""

    @property
    def position(self) -> int:
        """Position of the change feed reached; -1 before the first change."""
        return self._follower.position

    def serving_reasons(self) -> list[str]:
        """Return the reasons why the coordinator is not serving; empty when it is."""
        return self._readiness.serving(listens=bool(self._server), draining=self.life.draining)

    def complete_reasons(self) -> list[str]:
        """Return the reasons why a Match may fail now; empty when none is known."""
        return self._readiness.complete()

    async def run(
        self, life: Lifecycle | None = None, *, ready: asyncio.Event | None = None
    ) -> None:
        """Serve until a drain is requested, then drain and stop. Cancelling skips the drain."""
        self.life = life = life or self.life
        self._ready = ready or asyncio.Event()
        self._intake.resume(await self._open_spool())
        async with life, AsyncExitStack() as ends:
            if self._spool:
                ends.callback(self._spool.close)
            await ends.enter_async_context(life.background("coordinator.sync", self._session.run))
            ends.push_async_callback(self._recaller.close)
            ends.push_async_callback(self._membership.leave)
            await ends.enter_async_context(life.background("coordinator.outbox", self._writer.run))
            await self._start_spool(ends)
            ends.push_async_callback(self._flush)
            dispatching = life.background("coordinator.dispatch", self._dispatcher.run)
            await ends.enter_async_context(dispatching)
            self._server = await listeners.opened(self._config, self._listen, ends)
            leasing = life.background("coordinator.lease", self._membership.run)
            await ends.enter_async_context(leasing)
            life.serve()
            await life.drain_asked()
            await life.drained(self._drain(self._server))

    async def _listen(self, place: str) -> Listener:
        return await listen(
            self._carrier,
            place,
            handle=self._reporter.counting(self._handle),
            closed=self._closed,
            told_drain=self._told_drain,
            in_flight_max=self._config.limits.in_flight_max,
        )

    def _drain_soon(self, why: str) -> None:
        self.life.drain(why)

    async def _drain(self, server: Entrances) -> None:
        """Give up the lease, end clients' links, wait for pending writes, end agents' links."""
        server.refuse_new()
        await self._membership.leave()
        refusing = self.life.spawn("coordinator.refuse", self._refuse_soon())
        await server.sent_away(CALLERS)
        refusing.cancel()
        await self._writer.flushed()
        await server.sent_away((Kind.AGENT,))

    async def _refuse_soon(self) -> None:
        """Refuse requests after `GRACE_S`: clients that do not know Drain go on sending them."""
        await asyncio.sleep(GRACE_S)
        self._refusing = True

    async def _open_spool(self) -> list[Record]:
        if self._spool is None:
            return []
        left = await asyncio.to_thread(self._spool.start)
        if self._spool.unread_bytes:
            # Usually this is one record that an earlier process had not written completely.
            log.warning("spool.cut_short", unread_bytes=self._spool.unread_bytes)
        if self._spool.refused_bytes:
            log.warning("spool.refused_kept", refused_bytes=self._spool.refused_bytes)
        return left

    async def _start_spool(self, ends: AsyncExitStack) -> None:
        if self._spool is None:
            return

        async def replay() -> None:
            await self._intake.replay()
            self._progressed()

        life = self.life
        await ends.enter_async_context(life.background("coordinator.spool", self._intake.run))
        await ends.enter_async_context(life.background("coordinator.replay", replay))

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._writer.flushed()
        except TimeoutError:
            log.warning("outbox.left_behind", items=self._writer.depth)

    # --- `Follower` calls the methods in this section to follow the change feed. ---

    async def begin(self, peer: Peer) -> int:
        """Return `UNKNOWN`, which asks sync for all members, and for changes from now on."""
        return UNKNOWN

    async def begun(self, peer: Peer) -> None:
        """Read all series from sync; changes that the feed brings meanwhile are applied later."""
        # Cached states may be outdated: the feed begins now and does not repeat older changes.
        self._states.clear()
        first = True
        async for page in catalogue_pages.pages(catalogue_pages.by(peer, SURVEY_S)):
            self._catalogue.surveyed(page, first=first)
            first = False

    def apply(self, changes: Changes) -> None:
        """Apply changes of the feed: points, states and members."""
        self._catalogue.apply(changes.changes, changes.position)
        self._states.apply(changes.changes)
        self._readiness.reached()
        asyncio.get_running_loop().call_soon(self._progressed)

    def forget(self) -> None:
        """Forget all data that sync has sent, as a restart would."""
        self._catalogue.clear()
        self._states.clear()

    def _joined(self, fleet: frames.Fleet) -> None:
        self._catalogue.members = fleet.members
        self._follower.heard(fleet.position)
        self._progressed()

    def _progressed(self) -> None:
        """Set `_ready` once this process lacks nothing and agents hold every shard. The check of
        the shards is costly and comes last, because each frame of the feed calls this method."""
        if self._ready.is_set() or self._readiness.of_its_own():
            return
        if self._dispatcher.holds(self._catalogue.shards(self._catalogue.universes())):
            self._ready.set()

    def _describe(self) -> Member:
        place, carriers = address.told(self._config.advertise or self.address)
        return Member(
            name=self._carrier.me.name,
            incarnation=self._carrier.incarnation,
            address=place,
            position=max(self._follower.position, 0),
            evidence=self._reporter.evidence(
                self.life.stage,
                self.complete_reasons,
                carriers=carriers,
                outside=self._config.outside_advertise or "",
            ),
        )

    # --- requests ---

    async def _handle(self, peer: Peer, frame: Frame) -> Answer | None:
        if self._refusing and not isinstance(frame, frames.Holdings):
            raise Unavailable(
                f"{self._carrier.me.name} is about to stop: ask another coordinator, or retry in"
                f" {STOPPING_S:g} s",
                retry_after_s=STOPPING_S,
            )
        match frame:
            case frames.Holdings():
                self._dispatcher.reported(peer, frame)
                self._progressed()
                return None
            case frames.Match():
                request_checks.check_match(frame)
                with self._held(peer.identity.name, frame):
                    return await self._match(peer.identity.name, frame)
            case frames.Append():
                return await self._append(peer.identity, frame)
            case frames.Survey():
                return await self._survey(peer.identity.name, frame)
            case frames.Lookup(experience_ids=()):
                return frames.Experiences(
                    position=max(self._follower.position, 0),
                    coordinators=self._catalogue.coordinators(outside=self._outside(peer)),
                )
            case frames.Lookup():
                request_checks.check_lookup(frame)
                return await self._relayed(peer.identity.name, frame, _deadline_s(frame))
            case frames.Retire():
                request_checks.check_may_drain(peer.identity, self._carrier.grant(peer.identity))
                request_checks.check_retire(frame)
                return await self._relayed(peer.identity.name, frame, _deadline_s(frame))
            case _:
                raise BadInput(f"a coordinator does not answer {type(frame).__name__}")

    def _outside(self, peer: Peer) -> bool:
        return self._server is not None and self._server.is_outside(peer)

    def _told_drain(self, peer: Peer) -> None:
        if peer.identity.kind is Kind.AGENT and peer.leaving:
            self._dispatcher.leaves(peer)

    async def _closed(self, peer: Peer) -> None:
        self._dispatcher.lost(peer)

    async def _append(self, sender: Identity, request: frames.Append) -> frames.Appended:
        request_checks.check_append(request)
        request_checks.check_granted(request, sender, self._carrier.grant(sender))
        request_checks.check_times(request, now_s=time.time(), ahead_s=self._config.ahead_s)
        item = Item(columns=request.columns, identity=sender.name, trace=tracing.kept())
        receipt = await self._intake.store(item, request.level, _deadline_s(request))
        return frames.Appended(
            stored=receipt.stored,
            repeated=receipt.repeated,
            verdicts=receipt.verdicts,
            level=request.level,
            position=receipt.position or max(self.position, 0),
        )

    @contextmanager
    def _held(self, identity: str, request: frames.Match) -> Iterator[None]:
        """Count a Match towards its client's share of memory while it runs, maybe for minutes."""
        size = len(request.windows) * decision_bytes_max(request.specification)
        shares = self._match_bytes
        if not shares.fits(identity, size):
            raise Overloaded(
                f"matches of {identity} under way take {shares.held(identity):,} B of its share of"
                f" {shares.share:,} B; all clients take {shares.taken:,} B,"
                f" coordinator.matches_bytes_max={shares.limit:,}: send fewer at once, or retry"
                " later",
                retry_after_s=RETRY_AFTER_S,
            )
        shares.take(identity, size)
        try:
            yield
        finally:
            shares.give_back(identity, size)

    async def _match(self, identity: str, request: frames.Match) -> frames.Matched:
        deadline_s = _deadline_s(request)
        await self._follower.reached(request.at_least, deadline_s, identity=identity)
        request_checks.check_known(request, self._catalogue)
        async with self._dispatcher.place(identity, deadline_s):
            findings = await self._dispatcher.search(
                request.specification,
                request.windows,
                self._catalogue.searchable(
                    request.specification.universe,
                    request.specification.window,
                    (window.series for window in request.windows if window.series),
                ),
                at_least=request.at_least,
                deadline_s=deadline_s,
                origin=identity,
            )
            request_checks.check_found(request, findings, self._catalogue)
            state = await self._recaller.state(request.specification, deadline_s)
        with tracing.span("decide", windows=len(findings)):
            decisions = await self._decide(findings, state)
        if not request.record:
            return frames.Matched(decisions=tuple(decisions), position=self.position)
        return await self._record(identity, request, decisions, deadline_s)

    async def _decide(self, findings: list[Evidence], state: State) -> list[Decision]:
        """Decide all windows of one Match with the same state, even if a newer state arrives."""
        decisions = []
        for place, found in enumerate(findings):
            if place % DECIDED_AT_ONCE == DECIDED_AT_ONCE - 1:
                await asyncio.sleep(0)
            decision = reasoning.decide(found, state)
            outcome = decision.direction or decision.reason or ""
            metrics.DECISIONS.labels(outcome, decision.specification.universe).inc()
            decisions.append(decision)
        return decisions

    async def _record(
        self,
        identity: str,
        request: frames.Match,
        decisions: list[Decision],
        deadline_s: float,
    ) -> frames.Matched:
        once = {decision.experience_id: decision for decision in decisions}
        item = Item(decisions=tuple(once.values()), identity=identity, trace=tracing.kept())
        receipt = await self._intake.store(item, request.level, deadline_s)
        stored = {decision.experience_id: decision for decision in receipt.decisions}
        return frames.Matched(
            decisions=tuple(stored[decision.experience_id] for decision in decisions),
            repeated=receipt.repeated,
            position=receipt.position or max(self.position, 0),
        )

    async def _relayed(
        self, identity: str, request: frames.Request, deadline_s: float
    ) -> frames.Answer:
        """Pass a client's request on to sync and return the answer of sync."""
        loop = asyncio.get_running_loop()
        async with self._relays.place(identity, deadline_s):
            return await self._session.ask(request, budget_s=deadline_s - loop.time())

    async def _survey(self, identity: str, request: frames.Survey) -> frames.Surveyed:
        """Return one page of the list of series: from sync or, without sync, from memory."""
        catalogue_pages.check(request)
        deadline_s = asyncio.get_running_loop().time() + ANSWER_SHARE * request.budget_s / 2
        try:
            survey = await self._relayed(identity, request, deadline_s)
        except (Unavailable, DeadlineExceeded) as error:
            if self.position == UNKNOWN:
                raise
            log.info("survey.remembered", detail=error.message)
            return self._catalogue.survey(request.after)
        assert isinstance(survey, frames.Surveyed)  # noqa: S101 - it answers a Survey
        self._catalogue.surveyed(survey, first=not request.after)
        return survey

    async def _recall(self, request: frames.Recall) -> Answer:
        return await self._session.ask(request, budget_s=RECALL_S)

    async def _write(self, write: frames.Write, budget_s: float) -> Answer:
        return await self._session.ask(write, budget_s=budget_s)


def _deadline_s(request: frames.Request) -> float:
    return asyncio.get_running_loop().time() + ANSWER_SHARE * request.budget_s


def _spool_of(config: CoordinatorSettings) -> Spool | None:
    folder: Path | None = config.spool_dir
    return Spool(folder, bytes_max=config.spool_bytes_max) if folder else None
