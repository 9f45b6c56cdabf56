"""The sync process: the only one that speaks to PostgreSQL.

Writes wait in a bounded queue, at most half of it of one identity; one committer takes everything
that waits, commits it in one transaction and answers only then.  So the slower the disk, the
larger the batch, and nobody ever waits for a timer.  When more waits than one transaction takes,
identities take turns (`runtime.fair_queue`).  What was committed is told to the followers of the
feed at once.  A Write that is refused fails alone: it is judged by the core before anything is
written, and when PostgreSQL itself objects, the Writes of the batch are tried one by one.

When PostgreSQL is away this process stays: requests are answered with a Failure that says when to
ask again, `ready_reasons` says why, and it connects again by itself.  Members do not lose their
leases by an outage that was ours.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

import msgspec

from midstreamer import reasoning
from midstreamer.domain.errors import (
    BadInput,
    MidstreamerError,
    Overloaded,
    StoreError,
    Unavailable,
)
from midstreamer.domain.series import Column
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Answer, Frame, Member
from midstreamer.runtime import peer as peers
from midstreamer.runtime import surveying
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.fair_queue import FairQueue
from midstreamer.runtime.peer import Peer
from midstreamer.runtime.places import Shares
from midstreamer.runtime.tasks import pause, supervise
from midstreamer.store.ports import FleetView, Run, Store
from midstreamer.sync import core, leases, looking
from midstreamer.sync.commit import Committed, Committer
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.feed import Feed
from midstreamer.sync.parts import Given
from midstreamer.sync.settle import Rules
from midstreamer.telemetry import logs, metrics
from midstreamer.transport.carrier import Carrier, Server

log = logs.get(__name__)

TRIM_EVERY = 60
"""Rounds of housekeeping (a third of a lease each) between two trims of the feed."""
CLASH_S = 0.05
"""A StoreError that asks to be tried again this soon was a clash of transactions."""
CLASHES_MAX = 3
REOPEN = Backoff(first_s=0.1, most_s=2.0)
OVERLOADED_S = 0.1
CONNECTIONS_KEPT = 3
"""Connections to PostgreSQL that no Load, Lookup or Survey takes: for commits, for leases, and for
learning states, which a coordinator needs before it can decide."""
RECALLS_MAX = 1
READS_WAITING_MAX = 1024
"""Half of it is more than one link may ask at once."""
STOPPING_S = 0.5


@dataclass(frozen=True)
class _Waiting:
    """A Write and whoever awaits it."""

    given: Given
    answer: asyncio.Future[frames.Written]
    identity: str

    @property
    def rows(self) -> int:
        write = self.given.write
        return sum(len(column) for column in write.columns) + len(write.decisions)


class SyncService:
    """Serves Write, Renew, Survey, Load, Recall, Lookup and Tail."""

    def __init__(
        self, config: SyncSettings, carrier: Carrier, store: Store, *, rules: Rules = reasoning
    ) -> None:
        self._config = config
        self._carrier = carrier
        self._store = store
        self._committer = Committer(
            store,
            rules,
            verdicts_max=config.verdicts_max,
            streams_memory=config.streams_memory,
            quotas=config.quotas,
        )
        self._feed = Feed(store, memory=config.feed_memory)
        self._waiting: dict[int, _Waiting] = {}
        self._order = FairQueue()
        self._places = Shares(config.queue_writes_max)
        self._keys = itertools.count(1)
        # The store hands out connections in the order of asking: what reads must leave some.
        self._reads = Admission(
            max(1, config.connections - CONNECTIONS_KEPT),
            line=READS_WAITING_MAX,
            what="reads",
            setting="sync.connections - 3",
            retry_after_s=OVERLOADED_S,
        )
        self._recalls = Admission(
            RECALLS_MAX,
            line=READS_WAITING_MAX,
            what="learning states asked for",
            setting="RECALLS_MAX",
            retry_after_s=OVERLOADED_S,
        )
        self._came = asyncio.Event()
        self._fleet = FleetView(0, (), changed=False)
        self._joining: set[str] = set()
        """Members whose lease is being written."""
        self._server: Server | None = None
        self._trouble = "the store has not been opened yet"

    @property
    def address(self) -> str:
        """``host:port`` really bound; empty before `run` serves."""
        return self._server.address if self._server is not None else ""

    def ready_reasons(self) -> list[str]:
        """Why this process cannot do its work now; empty when it can."""
        reasons = [] if self._server is not None else ["not listening yet"]
        return reasons + ([f"store: {self._trouble}"] if self._trouble else [])

    async def run(self, *, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled; ``ready`` is set once listening with the store open."""
        self._server = await peers.listen(
            self._carrier,
            self._config.listen,
            handle=self.handle,
            in_flight_max=self._config.limits.in_flight_max,
        )
        log.info("sync.listening", address=self._server.address)
        try:
            async with asyncio.TaskGroup() as group:
                # The committer first: while the store is away it has to say so.
                group.create_task(supervise("committer", self._commit_all, restart=True))
                await self._open()
                group.create_task(supervise("housekeeper", self._keep_house, restart=True))
                if ready is not None:
                    ready.set()
        finally:
            server, self._server = self._server, None
            await server.close()
            self._refuse_waiting()
            await self._store.close()

    # --- requests ---------------------------------------------------------------------------------

    async def handle(self, peer: Peer, frame: Frame) -> Answer | None:
        """Answer one request of a peer."""
        match frame:
            case frames.Write():
                return await self._write(peer, frame)
            case frames.Renew():
                return await self._renew(peer, frame)
            case frames.Recall(stream=stream):
                deadline_s = asyncio.get_running_loop().time() + frame.budget_s
                async with self._recalls.place(peer.identity.name, deadline_s):
                    return await self._recall(stream)
            case frames.Load() | frames.Lookup() | frames.Survey():
                deadline_s = asyncio.get_running_loop().time() + frame.budget_s
                async with self._reads.place(peer.identity.name, deadline_s):
                    return await self._read(frame)
            case frames.Tail():
                await self._feed.follow(peer, frame.request, frame.after, states=frame.states)
        return None

    async def _read(self, frame: frames.Load | frames.Lookup | frames.Survey) -> Answer:
        match frame:
            case frames.Load():
                return await self._load(frame)
            case frames.Lookup():
                return await self._lookup(frame)
            case frames.Survey():
                surveying.check(frame)
                return await self._survey(frame.after)

    async def _write(self, peer: Peer, write: frames.Write) -> frames.Written:
        write = core.check_write(write)
        identity, places = peer.identity.name, self._places
        if not places.fits(identity):
            raise Overloaded(
                f"{places.held(identity):,} writes of {identity} wait for PostgreSQL, its share is"
                f" {places.share:,}; {places.taken:,} wait in all, sync.queue_writes_max="
                f"{places.limit:,}: send slower, or find out why PostgreSQL is slow",
                retry_after_s=OVERLOADED_S,
            )
        answer: asyncio.Future[frames.Written] = asyncio.get_running_loop().create_future()
        writer = peer.identity.uri, peer.incarnation
        self._queue(_Waiting(Given(writer, write), answer, identity))
        self._came.set()
        return await answer

    def _queue(self, waiting: _Waiting) -> None:
        key, write = next(self._keys), waiting.given.write
        self._waiting[key] = waiting
        self._places.take(waiting.identity)
        self._order.push(
            key,
            waiting.identity,
            cost=waiting.rows,
            tracks=(column.series for column in write.columns),
        )
        metrics.QUEUE_DEPTH.labels("writes").set(len(self._waiting))

    async def _renew(self, peer: Peer, renew: frames.Renew) -> frames.Fleet:
        name = peer.identity.name
        if renew.leaving:
            self._tell_fleet(await self._store.leave(name))
        else:
            certified = {"name": name, "incarnation": peer.incarnation}
            member = msgspec.structs.replace(renew.member, **certified)
            await self._lease(member)
        fleet = self._fleet
        return frames.Fleet(
            position=fleet.position,
            members=fleet.members,
            lease_s=self._config.lease_s,
            shard_points=self._config.shard_points,
        )

    async def _lease(self, member: Member) -> None:
        members = {one.name for one in self._fleet.members} | self._joining
        leases.check(member, members, members_max=self._config.members_max)
        self._joining.add(member.name)
        try:
            self._tell_fleet(await self._store.renew(member, self._config.lease_s))
        finally:
            self._joining.discard(member.name)

    async def _load(self, load: frames.Load) -> frames.Loaded:
        if not 0 < len(load.runs) <= frames.RUNS_MAX:
            raise BadInput(
                f"{len(load.runs):,} runs of points were asked for, 1 to {frames.RUNS_MAX:,} at"
                " once: ask for others next"
            )
        with metrics.SYNC_LATENCY_S.labels("load").time():
            runs = [Run(run.series, run.start, run.stop) for run in load.runs]
            found = await self._store.load(runs, self._config.load_points_max)
        parts = tuple(
            frames.Part(
                Column(run.series, part.times.tobytes(), part.values.tobytes()),
                part.start,
                part.count,
            )
            for run, part in zip(load.runs, found, strict=False)
        )
        return frames.Loaded(position=found[0].position, parts=parts)

    async def _lookup(self, lookup: frames.Lookup) -> frames.Experiences:
        if len(lookup.experience_ids) > frames.DECISIONS_MAX:
            raise BadInput(
                f"{len(lookup.experience_ids):,} experiences were asked for, at most"
                f" {frames.DECISIONS_MAX}: ask for fewer at once"
            )
        position = await self._store.position()
        made, came = await self._store.experiences(lookup.experience_ids)
        answer = looking.answered(lookup.experience_ids, made, came)
        return msgspec.structs.replace(answer, position=position)

    async def _survey(self, after: str) -> frames.Surveyed:
        """One page of the catalogue; with the first, members and counts."""
        page = await self._store.catalogue(after, surveying.PAGE_SERIES)
        series = surveying.cut(page.series)
        told = frames.Surveyed(
            position=page.position,
            series=series,
            shard_points=self._config.shard_points,
            more=page.more or len(series) < len(page.series),
        )
        if after:
            return told
        totals = await self._store.totals()
        return msgspec.structs.replace(
            told,
            members=self._fleet.members,
            decisions=totals.decisions,
            verdicts=totals.verdicts,
            ticks=totals.ticks,
        )

    async def _recall(self, stream: str) -> frames.Recalled:
        position, state = await self._store.state(stream)
        if state is None:
            return frames.Recalled(position=position, stream=stream)
        return frames.Recalled(
            position=position, stream=stream, version=state.version, state=state.body
        )

    # --- the committer ----------------------------------------------------------------------------

    async def _commit_all(self) -> None:
        """Commit whatever waits, again and again: the only writer of ticks and decisions."""
        while True:
            while not self._waiting:
                self._came.clear()
                await self._came.wait()
            await self._commit(self._batch())

    def _batch(self) -> list[_Waiting]:
        """What goes into the next transaction: of each identity in the order it came."""
        batch: list[_Waiting] = []
        rows = 0
        cap = self._config.batch_rows
        while (key := self._order.peek()) is not None:
            if batch and rows + self._waiting[key].rows > cap:
                break
            waiting = self._waiting.pop(self._order.pop())
            self._places.give_back(waiting.identity)
            if not waiting.answer.done():  # else its asker is gone or its deadline has passed
                batch.append(waiting)
                rows += waiting.rows
        metrics.QUEUE_DEPTH.labels("writes").set(len(self._waiting))
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            with metrics.SYNC_LATENCY_S.labels("commit").time():
                committed = await self._tried([waiting.given for waiting in batch])
        except Exception as error:
            if len(batch) > 1 and not _is_away(error):
                for waiting in batch:
                    await self._commit([waiting])
            else:
                self._fail(batch, error)
            return
        except BaseException:
            self._fail(batch, Unavailable("sync is stopping", retry_after_s=STOPPING_S))
            raise
        self._tell(batch, committed)

    async def _tried(self, batch: list[Given]) -> Committed:
        """Commit; again at once when another transaction was in the way."""
        for _ in range(CLASHES_MAX - 1):
            try:
                return await self._committer.commit(batch)
            except StoreError as error:
                if not 0 < error.retry_after_s <= CLASH_S:
                    raise
        return await self._committer.commit(batch)

    def _fail(self, batch: list[_Waiting], error: BaseException) -> None:
        if isinstance(error, StoreError):
            self._in_trouble(error)
        elif not isinstance(error, MidstreamerError):
            log.error("commit.failed", exc_info=error)
            error = MidstreamerError("the write failed at sync; its log says why")
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)

    def _tell(self, batch: list[_Waiting], committed: Committed) -> None:
        """After the commit: followers first, then those who asked."""
        self._feed.publish(committed.before, committed.changes)
        for waiting, outcome in zip(batch, committed.outcomes, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(outcome, MidstreamerError):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)
        metrics.WRITE_BATCH_ROWS.observe(committed.rows)
        for verdict in committed.verdicts:
            hit = "void" if verdict.void else str(verdict.hit).lower()
            metrics.VERDICTS.labels(hit).inc()
            if verdict.void:
                name = verdict.experience_id.hex()
                log.warning("verdict.void", experience=name, series=verdict.series)

    def _refuse_waiting(self) -> None:
        batch = list(self._waiting.values())
        for waiting in batch:
            self._places.give_back(waiting.identity)
        self._order.discard(tuple(self._waiting))
        self._waiting.clear()
        self._fail(batch, Unavailable("sync is stopping", retry_after_s=STOPPING_S))

    # --- the store and the fleet ------------------------------------------------------------------

    async def _open(self) -> None:
        """Open the store; while that fails, say so and try again."""
        for failures in itertools.count(1):
            try:
                await self._store.open()
                await self._back()
                return
            except StoreError as error:
                self._in_trouble(error)
            await asyncio.sleep(pause(failures, backoff=REOPEN))

    async def _keep_house(self) -> None:
        """Let leases run out, notice what others committed, forget what is old."""
        rounds, seen = 0, 0
        while True:
            await asyncio.sleep(self._config.lease_s / 3)
            try:
                if self._trouble:
                    await self._back()
                # A position seen a round ago and not told since was committed by somebody else.
                if seen > self._feed.position:
                    self._feed.noticed(seen)
                self._tell_fleet(await self._store.expire())
                seen = self._fleet.position
                rounds += 1
                if rounds % TRIM_EVERY == 0:
                    await self._store.trim(self._config.feed_keep)
            except StoreError as error:
                self._in_trouble(error)

    async def _back(self) -> None:
        """The store answers (again): nobody lost a lease by that, and the feed may have moved."""
        await self._store.extend(self._config.lease_s)
        self._feed.noticed(await self._store.position())
        self._tell_fleet(await self._store.expire())
        self._trouble = ""
        log.info("store.opened", position=self._feed.position)

    def _in_trouble(self, error: StoreError) -> None:
        if _is_away(error) and error.message != self._trouble:
            self._trouble = error.message
            log.warning("store.away", detail=error.message)

    def _tell_fleet(self, fleet: FleetView) -> None:
        if fleet.changed:
            self._feed.publish(fleet.position - 1, [frames.Joined(fleet.members)])
        self._fleet = fleet
        kinds = [member.name.partition("/")[0] for member in fleet.members]
        for kind in ("agent", "coordinator"):
            metrics.MEMBERS.labels(kind).set(kinds.count(kind))


def _is_away(error: BaseException) -> bool:
    """Whether it is PostgreSQL that fails, and not one Write that it objects to."""
    return isinstance(error, StoreError) and error.retry_after_s > CLASH_S
