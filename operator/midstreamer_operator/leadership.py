"""One replica of the operator: it stands by, or leads while it holds the lease.

All replicas stay ready, and only the one that holds the lease acts.  The leader stops its work when
it could not renew the lease in time.  When its process ends, it releases the lease, so that another
replica takes over at once.  `plan.election` decides when to take or renew the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from enum import StrEnum

from midstreamer.cluster.api import Api
from midstreamer.cluster.service_account import Account
from midstreamer.domain.errors import MidstreamerError, shortened
from midstreamer.runtime import tasks
from midstreamer.telemetry import logs, metrics
from midstreamer_operator import api_reads, api_writes, authority, database_password, handlers
from midstreamer_operator.api_writes import Overtaken
from midstreamer_operator.plan.election import Election, Move
from midstreamer_operator.pool_reconciler import Pools
from midstreamer_operator.resources import leases
from midstreamer_operator.settings import OperatorSettings
from midstreamer_operator.signals import Signals
from midstreamer_operator.signing_reconciler import Signer

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
STUCK_EXIT = 3
"""Exit code of a process whose work did not end before its lease could expire."""
STEADY_S = 10.0
"""After a failure of kopf the replica is not ready until it has led for this many seconds without
another failure."""

log = logs.get(__name__)


class Part(StrEnum):
    """Parts of a replica that can fail separately; a failure makes the replica not ready."""

    LEASE = "lease"
    AUTHORITY = "authority"
    EVENTS = "events"
    SWEEP = "sweep"
    POOLS = "pools"
    PASSWORD = "password"  # noqa: S105 - the name of a part


class Replica:
    """One replica of the operator."""

    def __init__(
        self, settings: OperatorSettings, api: Api, account: Account, signals: Signals
    ) -> None:
        self._settings = settings
        self._api = api
        self._account = account
        self._signals = signals
        self._lease = f"{settings.release}-operator"
        self._path = LEASES.format(settings.namespace)
        self.election = Election(
            settings.me, lease_s=settings.lease_s, renew_within_s=settings.renew_within_s
        )
        self._troubles: dict[Part, str] = {Part.LEASE: "the lease was not read yet"}
        self._spare_s = settings.lease_s - settings.renew_within_s
        """Seconds between the time at which a leader gives up and the expiry of its lease.

        A leader that could not renew its lease stops leading this many seconds before the lease
        expires.  The leader's work is then cancelled, and must end within these seconds.  The same
        number is the timeout of reading and writing the lease.
        """

    def serving_reasons(self) -> list[str]:
        """Return the reasons why this replica is not able to lead; an empty list when it is."""
        return list(self._troubles.values())

    @property
    def leads(self) -> bool:
        """Whether this replica holds the lease and may act now."""
        return self.election.leads(_now_s())

    async def run(self) -> None:
        """Stand by, and lead whenever the lease is held, until a signal; then release the lease."""
        try:
            while not self._signals.stop.is_set():
                await self._look()
                if self.leads:
                    await self._lead()
                else:
                    self._well(Part.AUTHORITY, Part.EVENTS, Part.SWEEP, Part.POOLS, Part.PASSWORD)
                await tasks.awaited(self._signals.stop, self._settings.retry_s)
        finally:
            metrics.OPERATOR_LEADER.set(0.0)
            await self._give_back()

    async def _lead(self) -> None:
        """Do the leader's work until the lease is lost, a signal comes, or any of its tasks
        ends."""
        try:
            signer = await self._signer()
        except (MidstreamerError, Overtaken) as error:
            self._ill(Part.AUTHORITY, str(error))
            return
        self._well(Part.AUTHORITY)
        log.info("operator.leading", holder=self.election.me)
        metrics.OPERATOR_LEADER.set(1.0)
        pools = self._pools()
        events = handlers.run(signer, pools, self._account, begun=self._signals.take)
        sweeps = tasks.supervise("operator.sweep", lambda: self._sweep(signer), restart=True)
        looks = tasks.supervise("operator.pools", lambda: self._look_after(pools), restart=True)
        work = {
            asyncio.create_task(events, name="operator.events"),
            asyncio.create_task(sweeps, name="operator.sweep"),
            asyncio.create_task(looks, name="operator.pools"),
        }
        began_s = _now_s()
        try:
            while self.leads and not self._signals.stop.is_set() and not _ended(work):
                await tasks.awaited(self._signals.stop, self._settings.retry_s)
                await self._look()
                if _now_s() - began_s > STEADY_S:
                    self._well(Part.EVENTS)
        finally:
            metrics.OPERATOR_LEADER.set(0.0)
            await self._end(work)

    async def _signer(self) -> Signer:
        """Load or create the authority, and return the reconciler of signing requests.

        The authority's certificate is also added to the bundle of trusted authorities.
        """
        policy = self._settings.policy
        opened = await authority.opened(self._api, policy, time.time())
        await authority.published(self._api, policy, opened)
        ends = opened.certificate.not_valid_after_utc
        metrics.AUTHORITY_EXPIRY_S.set(ends.timestamp())
        own = (self._settings.pod, self._settings.uid)
        return Signer(self._api, policy, opened, own, time.time, lambda: self.leads)

    def _pools(self) -> Pools:
        namespace, fleet, rests_s = (
            self._settings.namespace,
            self._settings.release,
            self._settings.sweep_s,
        )
        return Pools(self._api, namespace, fleet, time.time, lambda: self.leads, rests_s)

    async def _look_after(self, pools: Pools) -> None:
        """Reconcile the pools periodically; `tasks.supervise` restarts this method after an
        error."""
        while True:
            try:
                with _counted("pools"):
                    await pools.look()
            except MidstreamerError as error:
                self._ill(Part.POOLS, f"the pools of agents cannot be reconciled: {error.message}")
                raise
            self._well(Part.POOLS)
            await pools.rest()

    async def _sweep(self, signer: Signer) -> None:
        """Reconcile all open signing requests periodically; `tasks.supervise` restarts this method
        after an error."""
        while True:
            await self._provide_password(signer)
            try:
                with _counted("requests"):
                    await signer.sweep()
            except MidstreamerError as error:
                self._ill(Part.SWEEP, error.message)
                raise
            self._well(Part.SWEEP)
            await asyncio.sleep(tasks.spread(self._settings.sweep_s))

    async def _provide_password(self, signer: Signer) -> None:
        """Make the password of the database if it is missing.

        A failure is recorded as a trouble of this replica; signing requests are still reconciled.
        """
        if not (self._settings.makes_password and signer.may_act()):
            return
        try:
            trouble = await database_password.provided(self._api, signer.policy)
        except MidstreamerError as error:
            trouble = f"the password of the database cannot be read or made: {error.message}"
        if trouble:
            self._ill(Part.PASSWORD, trouble)
        else:
            self._well(Part.PASSWORD)

    async def _look(self) -> None:
        """Read the lease, and take or renew it when `plan.election` says so.

        An error is recorded as a trouble of this replica, and is not raised.
        """
        try:
            async with asyncio.timeout(self._spare_s):
                await self._looked()
        except Overtaken:
            self.election.lost()
        except (MidstreamerError, TimeoutError) as error:
            why = str(error) or "the API server has not answered in time"
            self._ill(Part.LEASE, f"the lease cannot be read or written: {why}")
        else:
            self._well(Part.LEASE)

    def _ill(self, part: Part, why: str) -> None:
        """Record the trouble of a part, and log it when it is new."""
        if self._troubles.get(part) != why:
            log.warning("operator.troubled", part=part, detail=why)
        self._troubles[part] = why

    def _well(self, *parts: Part) -> None:
        """Clear the troubles of these parts."""
        for part in parts:
            self._troubles.pop(part, None)

    async def _looked(self) -> None:
        """Read the lease; take or renew it. Raise Overtaken when another replica wrote it first."""
        asked_s = _now_s()
        found = await api_reads.lease(self._api, self._settings.namespace, self._lease)
        record = None if found is None else leases.read(found)
        move = self.election.read(record, _now_s())
        me, lease_s = self.election.me, self._settings.lease_s
        if move is Move.WAIT:
            return
        if found is None:
            manifest = leases.made(self._lease, me, lease_s, time.time())
            if await api_writes.create(self._api, self._path, manifest) is None:
                return
        else:
            manifest = leases.held(found, me, lease_s, time.time())
            await api_writes.replace(self._api, f"{self._path}/{self._lease}", manifest)
        self.election.written(asked_s)

    async def _give_back(self) -> None:
        """Release the lease if this replica leads, so that others need not wait until it expires.

        A failure is only logged: then the lease expires by itself.
        """
        if not self.leads:
            return
        self.election.lost()
        try:
            async with asyncio.timeout(self._settings.retry_s):
                found = await api_reads.lease(self._api, self._settings.namespace, self._lease)
                if found is None or leases.read(found).holder != self.election.me:
                    return
                manifest = leases.held(found, "", self._settings.lease_s, time.time())
                await api_writes.replace(self._api, f"{self._path}/{self._lease}", manifest)
                log.info("lease.given_back")
        except (MidstreamerError, Overtaken, TimeoutError) as error:
            log.warning("lease.not_given_back", detail=str(error))

    async def _end(self, work: set[asyncio.Task[None]]) -> None:
        """Cancel the work and wait for its end.

        Exit the process when a task does not end in time, because no work may outlast the lease.
        """
        for task in work:
            task.cancel()
        _, stuck = await asyncio.wait(work, timeout=self._spare_s)
        if stuck:
            log.error("operator.stuck", tasks=sorted(task.get_name() for task in stuck))
            os._exit(STUCK_EXIT)
        for task in work:
            if not task.cancelled() and (error := task.exception()):
                self._ill(Part.EVENTS, f"{task.get_name()} failed: {shortened(str(error))}")


def _ended(work: set[asyncio.Task[None]]) -> bool:
    return any(task.done() for task in work)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


@contextlib.contextmanager
def _counted(work: str) -> Iterator[None]:
    """Set the metrics of one run of ``work``: duration, result, and time of the last success."""
    began_s, result = time.monotonic(), "failed"
    try:
        yield
        result = "ok"
        metrics.OPERATOR_LAST_OK_S.labels(work).set_to_current_time()
    finally:
        metrics.OPERATOR_RUNS.labels(work, result).inc()
        metrics.OPERATOR_RUN_S.labels(work).observe(time.monotonic() - began_s)
