"""The sync process, the only kind of process that connects to PostgreSQL.

Writes wait in a bounded queue; one identity may use at most half of it.  A single committer takes
all waiting Writes, commits them in one transaction, and then answers (`sync.writes`).  So a slow
disk leads to larger batches, and no Write waits for a timer.  Committed changes are pushed to the
followers of the change feed immediately.

Several syncs may share one database.  Each learns of the commits of the others from PostgreSQL, and
reads the changes once for all of its followers (`sync.feed`).

While PostgreSQL is unreachable, this process keeps running and reconnects by itself.  Requests are
answered with a Failure that says when to retry, and `complete_reasons` says what is wrong.  When
PostgreSQL is back, all leases are extended, because members could not renew them meanwhile.

When this process is asked to drain, it announces that in its lease and on its links, commits the
waiting Writes, and closes each link when no request is in progress on it (`sync.link_drain`).
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack

from midstreamer import reasoning
from midstreamer.domain.errors import StoreError
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Answer, Frame, Member
from midstreamer.runtime import lease_evidence
from midstreamer.runtime import peer as peers
from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.fleet_member import LEAVE_S, RENEWALS_PER_LEASE
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.runtime.peer import Listener, Peer
from midstreamer.runtime.tasks import STEADY_S, pause, spread
from midstreamer.store.store_interface import Store
from midstreamer.sync.commit import Committed, Committer
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.feed import Feed
from midstreamer.sync.fleet import Fleet
from midstreamer.sync.link_drain import Leaving
from midstreamer.sync.postgres_health import StoreHealth
from midstreamer.sync.read_requests import Reads
from midstreamer.sync.settling import Rules
from midstreamer.sync.writes import Writes
from midstreamer.telemetry import logs
from midstreamer.transport import address
from midstreamer.transport.carrier import Carrier

log = logs.get(__name__)

TRIM_EVERY = 60
"""Old changes are deleted from the feed once in so many rounds of housekeeping. A round begins each
time a third of the setting lease_s has passed."""
POLL_S = 0.25
"""Seconds between two reads of the feed's position. Polling is needed because a sync of an older
version sends no notification when it commits."""
REOPEN = Backoff(first_s=0.1, most_s=2.0)
"""Pauses between attempts to open the store when the process starts."""
RELISTEN = Backoff(first_s=0.1, most_s=5.0)
"""Pauses between attempts to listen for PostgreSQL's notifications again. Meanwhile the process
polls every `POLL_S` seconds."""


class SyncService:
    """The sync process: serves Write, Renew, Survey, Load, Recall, Lookup, Retire and Tail."""

    def __init__(
        self, config: SyncSettings, carrier: Carrier, store: Store, *, rules: Rules = reasoning
    ) -> None:
        self._config = config
        self._carrier = carrier
        self._store = store
        self.life = Lifecycle(drain_s=config.drain_s)
        """The stage of this process and its background tasks.  `run` replaces this object by its
        argument ``life``, if one is given."""
        committer = Committer(
            store,
            rules,
            verdicts_max=config.verdicts_max,
            streams_memory=config.streams_memory,
            quotas=config.quotas,
        )
        self._health = StoreHealth()
        self._reporter = lease_evidence.Reporter(carrier)
        overtaken = committer.licences.overtaken
        self._feed = Feed(store, memory=config.feed_memory, by_others=overtaken)
        self._fleet = Fleet(
            config,
            store,
            self._feed,
            me=carrier.me.name,
            describe=self._describe,
            drain=self._asked_to_drain,
        )
        self._writes = Writes(config, committer, self._health, self._told)
        self._reads = Reads(config, store, self._fleet.visible)
        self._leaving = Leaving(self._fleet.others)
        self._server: Listener | None = None

    @property
    def address(self) -> str:
        """The bound ``host:port``; empty while `run` is not listening."""
        return self._server.address if self._server is not None else ""

    def serving_reasons(self) -> list[str]:
        """Return why this process serves no requests; empty if it does.

        A refusal with an error code counts as serving: it tells the peer when to retry.
        """
        if self.life.draining:
            return ["draining"]
        reasons = [] if self._server is not None else ["not listening yet"]
        return reasons if self._health.opened else [*reasons, f"store: {self._health.trouble}"]

    def complete_reasons(self) -> list[str]:
        """Return why this process cannot do all of its work now; empty if it can."""
        reasons = [] if self._server is not None else ["not listening yet"]
        trouble = self._health.trouble
        return reasons + ([f"store: {trouble}"] if trouble else [])

    async def run(
        self, life: Lifecycle | None = None, *, ready: asyncio.Event | None = None
    ) -> None:
        """Serve until drained or cancelled.

        ``ready`` is set when the process is listening and the store is open.
        """
        self.life = life = life or self.life
        async with life, AsyncExitStack() as ends:
            self._server = await peers.listen(
                self._carrier,
                self._config.listen,
                handle=self._reporter.counting(self.handle),
                in_flight_max=self._config.limits.in_flight_max,
            )
            ends.push_async_callback(self._close)
            log.info("sync.listening", address=self._server.address)
            # The committer starts first: until the store is open, it answers Writes with an error.
            await ends.enter_async_context(life.background("sync.commit", self._writes.run))
            if await self._opened(life):
                await ends.enter_async_context(life.background("sync.feed", self._feed.run))
                await ends.enter_async_context(life.background("sync.watch", self._watch))
                await ends.enter_async_context(life.background("sync.house", self._keep_house))
                life.serve()
                await self._renew()
                async with life.background("sync.lease", self._keep_lease):
                    if ready is not None:
                        ready.set()
                    await life.drain_asked()
                    await life.drained(self._drain(self._server))
                await self._leave()

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()
        self._writes.refuse()
        await self._store.close()

    async def _drain(self, server: Listener) -> None:
        """Refuse new connections and drain every link; peers move to another sync."""
        server.refuse_new()
        await self._renew()  # now other syncs know that this one is draining
        await self._leaving.all(server.peers)

    async def _leave(self) -> None:
        """Delete the lease of this process; if that fails, the lease expires by itself."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._fleet.leave()
        except StoreError as error:
            log.info("lease.left_behind", detail=error.message)
        except TimeoutError:
            log.info("lease.left_behind", detail=f"the store did not answer in {LEAVE_S:g} s")

    def _asked_to_drain(self) -> None:
        self.life.drain("its lease says so")

    def _describe(self) -> Member:
        """Return the present content of the lease of this process."""
        place, carriers = address.told(self._config.advertise or self.address)
        return Member(
            name=self._carrier.me.name,
            incarnation=self._carrier.incarnation,
            address=place,
            position=self._feed.position,
            evidence=self._reporter.evidence(
                self.life.stage, self.complete_reasons, carriers=carriers
            ),
        )

    # --- requests ---------------------------------------------------------------------------------

    async def handle(self, peer: Peer, frame: Frame) -> Answer | None:
        """Answer one request of a peer; return None for a Tail: Changes frames are its answer."""
        if isinstance(frame, frames.Renew):
            return await self._fleet.renew(peer, frame)
        self._leaving.check(peer)
        match frame:
            case frames.Write():
                return await self._writes.write(peer, frame)
            case frames.Load() | frames.Lookup() | frames.Survey() | frames.Recall():
                return await self._reads.answer(peer, frame)
            case frames.Retire(name=name):
                async with self._reads.place(peer, frame):
                    return await self._fleet.retire(name)
            case frames.Tail():
                await self._feed.follow(peer, frame.request, frame.after, states=frame.states)
        return None

    def _told(self, committed: Committed) -> None:
        self._feed.publish(committed.before, committed.changes)

    # --- the store --------------------------------------------------------------------------------

    async def _opened(self, life: Lifecycle) -> bool:
        """Open the store; return False if the process is asked to drain before that succeeds."""
        opening = life.spawn("sync.opening", self._open())
        asked = life.spawn("sync.asked", life.drain_asked())
        try:
            await asyncio.wait({opening, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            if not opening.done():
                opening.cancel()
        if opening.cancelled() or not opening.done():
            return False
        opening.result()
        return True

    async def _open(self) -> None:
        """Open the store; after a StoreError, note it and retry, without end."""
        for failures in itertools.count(1):
            try:
                await self._store.open()
                await self._back()
                return
            except StoreError as error:
                self._health.failed(error)
            await asyncio.sleep(pause(failures, backoff=REOPEN))

    async def _watch(self) -> None:
        """Listen for the commits of other syncs; while listening fails, poll and retry."""
        loop, failures, logged = asyncio.get_running_loop(), 0, ""
        while True:
            began_s = loop.time()
            try:
                await self._store.watch(self._feed.heard, period_s=POLL_S)
            except StoreError as error:
                if loop.time() - began_s > STEADY_S:
                    failures, logged = 0, ""
                if error.message != logged:  # log each error once, not at every attempt
                    log.warning("feed.not_listening", detail=error.message)
                logged = error.message
            failures += 1
            await self._poll(loop.time() + pause(failures, backoff=RELISTEN))

    async def _poll(self, until_s: float) -> None:
        """Read the feed's position every `POLL_S` seconds until ``until_s``, at least once.

        Polling works even if the separate connection for listening cannot be opened: it uses the
        connections that also serve requests.
        """
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._feed.begin()
            except StoreError as error:
                self._health.failed(error)
            if asyncio.get_running_loop().time() >= until_s:
                return

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(spread(self._config.lease_s / RENEWALS_PER_LEASE))
            await self._renew()

    async def _renew(self) -> None:
        """Renew the lease of this process; record a StoreError instead of raising it.

        If the store is unreachable, the missed renewal does no harm: no sync can remove the lease
        then, and when the store answers again, sync extends all leases first (`_back`).
        """
        try:
            await self._fleet.renew_own()
        except StoreError as error:
            self._health.failed(error)

    async def _keep_house(self) -> None:
        """Remove expired leases; resume work when the store answers again.

        This is done in rounds: three rounds within the duration of a lease.  In every round whose
        number is a multiple of `TRIM_EVERY`, old changes are also deleted from the feed.
        """
        rounds = 0
        while True:
            await asyncio.sleep(self._config.lease_s / RENEWALS_PER_LEASE)
            try:
                if self._health.trouble:
                    await self._back()
                await self._fleet.expire()
                rounds += 1
                if rounds % TRIM_EVERY == 0:
                    await self._store.trim(self._config.feed_keep)
            except StoreError as error:
                self._health.failed(error)

    async def _back(self) -> None:
        """Resume work when the store answers, for the first time or again.

        Extend all leases, because no member could renew during the outage, and continue the feed
        at the store's position.
        """
        await self._store.extend(self._config.lease_s)
        await self._feed.begin()
        await self._fleet.expire()
        self._health.answers(self._feed.position)
