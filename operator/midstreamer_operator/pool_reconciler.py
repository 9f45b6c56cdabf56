"""Reconciliation of an installation's pools of agents: observe each pool, decide, act.

Reconciliation is level-based: one task goes over all pools, and events only wake this task.  So two
passes never run at the same time, and a hundred events that come together cause a single pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from midstreamer.cluster.api import Api
from midstreamer.domain.errors import BadInput, MidstreamerError, Refused
from midstreamer.runtime import tasks
from midstreamer.telemetry import logs, metrics
from midstreamer_operator import api_reads, api_writes
from midstreamer_operator.api_writes import Overtaken
from midstreamer_operator.plan import pools as plan
from midstreamer_operator.plan.pools import Applied, Seen
from midstreamer_operator.resources import agentpools, deployments
from midstreamer_operator.resources.agentpools import Pool

PASSES_MAX = 4
"""Maximum number of times that one call of `Pools.reconcile` reads a pool, decides and acts. If the
pool is still not settled after the last time, the call raises `Overtaken`."""
WAITS_S = 2.0
"""Seconds between two passes while a pool waits; events alone do not suffice, because a stuck pod
causes none."""
GATHERS_S = 0.2
"""Seconds to wait before each pass, so that events that come together cause a single pass."""

log = logs.get(__name__)


@dataclass
class Pools:
    """Reconciles all pools of agents of one fleet."""

    api: Api
    namespace: str
    fleet: str
    now: Callable[[], float]
    may_act: Callable[[], bool] = lambda: True
    """Return whether this replica leads; called before each write."""
    rests_s: float = 30.0
    """Seconds between two passes while every pool is ready and no event comes."""
    _applied: dict[str, Applied] = field(default_factory=dict, repr=False)
    """Digest and generation of the Deployment that was applied last for each pool. The keys are the
    uids of the pools."""
    _agents: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    """Numbers of wanted and of ready agents of each pool in the last pass. The keys are the names
    of the pools."""
    _woken: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _waits: bool = False
    """Whether at least one pool was waiting for something in the last pass."""

    def wake(self) -> None:
        """Request another pass, because an object has changed."""
        self._woken.set()

    async def rest(self) -> None:
        """Return when it is time for another pass.

        That is soon after an event. Without an event it is after `WAITS_S` seconds if a pool waits,
        else after ``rests_s`` seconds.
        """
        await asyncio.sleep(GATHERS_S)
        await tasks.awaited(self._woken, WAITS_S if self._waits else self.rests_s)
        self._woken.clear()

    async def look(self) -> None:
        """Make one pass over every pool of the fleet.

        When one pool fails, the others are still reconciled; the last error is raised at the end.
        """
        trouble: MidstreamerError | None = None
        self._waits, uids = False, set()
        self._agents.clear()
        async for given in api_reads.pools(self.api, self.namespace):
            if (given.get("spec") or {}).get("fleet") != self.fleet:
                continue
            uids.add(str(given["metadata"].get("uid")))
            try:
                self._waits |= await self.reconcile(agentpools.read(given))
            except Overtaken as error:
                log.debug("pool.overtaken", detail=str(error))
                self._waits = True
            except MidstreamerError as error:
                trouble = error
        self._applied = {uid: kept for uid, kept in self._applied.items() if uid in uids}
        self._measure()
        if trouble is not None:
            raise trouble

    async def reconcile(self, pool: Pool) -> bool:
        """Read one pool, decide and act, until there is nothing to do but wait.

        Return whether the pool waits for something, so that the next pass must come soon.  Raise
        Overtaken when somebody else changed an object meanwhile, or when this replica is no longer
        the leader.
        """
        refusal = ""
        for _ in range(PASSES_MAX):
            seen = replace(await self._seen(pool), refusal=refusal)
            ready = seen.deployment.ready if seen.deployment else 0
            self._agents[pool.name] = (pool.spec.replicas, ready)
            decision = plan.decide(seen, self.now())
            if (decision.apply or decision.status) and not self.may_act():
                raise Overtaken("this replica is no longer the leader")
            if decision.apply is None:
                if decision.status is not None:
                    path = agentpools.path(self.namespace, pool.name)
                    manifest = agentpools.told(pool, decision.status)
                    await api_writes.apply(self.api, f"{path}/status", manifest)
                    _tell(pool, decision.status)
                return decision.waits
            try:
                deployment = deployments.read(
                    await api_writes.apply(
                        self.api,
                        api_reads.deployment_path(self.namespace, pool.name),
                        decision.apply,
                    )
                )
            except (BadInput, Refused) as error:
                refusal = error.message
            else:
                digest = deployments.digest(decision.apply)
                self._applied[pool.uid] = Applied(digest, deployment.generation)
                log.info("pool.applied", pool=pool.name, replicas=pool.spec.replicas)
        raise Overtaken(
            f"pool {pool.name} is not settled after {PASSES_MAX} passes; it is tried again soon"
        )

    def _measure(self) -> None:
        """Set the metrics of wanted and ready agents of each pool."""
        metrics.POOL_AGENTS.clear()
        for pool, (wanted, ready) in self._agents.items():
            metrics.POOL_AGENTS.labels(pool, "wanted").inc(wanted)
            metrics.POOL_AGENTS.labels(pool, "ready").inc(ready)

    async def _seen(self, pool: Pool) -> Seen:
        """Read the PodTemplate and Deployment of a pool; while agents are missing, also its pods
        and Events about them."""
        name = deployments.template_name(self.fleet)
        template = await api_reads.pod_template(self.api, self.namespace, name)
        held = await api_reads.deployment(self.api, self.namespace, pool.name)
        seen = Seen(pool, template, held, applied=self._applied.get(pool.uid))
        if held is None or held.is_whole:
            return seen
        pods = await api_reads.waiters(self.api, self.namespace, deployments.selector(pool))
        waiting = [pod for pod in pods if not pod.is_ready and not pod.is_going]
        events = {
            pod.name: await api_reads.warnings(self.api, self.namespace, pod)
            for pod in waiting[: api_reads.ASKED_ABOUT_MAX]
        }
        return replace(seen, pods=pods, events=events)


def _tell(pool: Pool, status: agentpools.Status) -> None:
    """Log the new status of a pool, unless reason and message are as in its old status."""
    before = {each.type: each for each in pool.status.conditions}.get("Ready")
    now = status.conditions[0]
    if before is None or (before.reason, before.message) != (now.reason, now.message):
        log.info("pool.is", pool=pool.name, reason=now.reason, detail=now.message)
