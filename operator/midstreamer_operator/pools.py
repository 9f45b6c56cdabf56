"""The pools of one installation: look at each, decide, do; again whenever something changes.

It is level-based, and one task goes over all pools: events only wake it.  So no two passes are
under way at once, and a hundred events that come together are one pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from midstreamer.cluster.api import Api
from midstreamer.domain.errors import BadInput, MidstreamerError, Refused
from midstreamer.runtime import tasks
from midstreamer.telemetry import logs, metrics
from midstreamer_operator import act, observe
from midstreamer_operator.act import Overtaken
from midstreamer_operator.plan import pools as plan
from midstreamer_operator.plan.pools import Applied, Seen
from midstreamer_operator.resources import agentpools, deployments
from midstreamer_operator.resources.agentpools import Pool

PASSES_MAX = 4
WAITS_S = 2.0
"""Between two looks while a pool waits for something: of a pod that is stuck no event tells."""
GATHERS_S = 0.2
"""Events that come within this time of each other are one pass."""

log = logs.get(__name__)


@dataclass
class Pools:
    """The pools of one fleet, with what is needed to look after them."""

    api: Api
    namespace: str
    fleet: str
    now: Callable[[], float]
    may_act: Callable[[], bool] = lambda: True
    """Whether this replica leads; asked before each write."""
    rests_s: float = 30.0
    """Between two looks when every pool is as it should be and no event comes."""
    _applied: dict[str, Applied] = field(default_factory=dict, repr=False)
    """By uid of the pool."""
    _agents: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    """Agents wanted and ready in each pool, as seen in the last look."""
    _woken: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _waits: bool = False

    def wake(self) -> None:
        """Something has changed: look again."""
        self._woken.set()

    async def rest(self) -> None:
        """Return when it is time for another look."""
        await asyncio.sleep(GATHERS_S)
        await tasks.awaited(self._woken, WAITS_S if self._waits else self.rests_s)
        self._woken.clear()

    async def look(self) -> None:
        """One pass over every pool of the fleet.

        One that fails does not keep the others from their turn; the last error is raised.
        """
        trouble: MidstreamerError | None = None
        self._waits, there = False, set()
        self._agents.clear()
        async for given in observe.pools(self.api, self.namespace):
            if (given.get("spec") or {}).get("fleet") != self.fleet:
                continue
            there.add(str(given["metadata"].get("uid")))
            try:
                self._waits |= await self.reconcile(agentpools.read(given))
            except Overtaken as error:
                log.debug("pool.overtaken", detail=str(error))
                self._waits = True
            except MidstreamerError as error:
                trouble = error
        self._applied = {uid: kept for uid, kept in self._applied.items() if uid in there}
        self._measure()
        if trouble is not None:
            raise trouble

    async def reconcile(self, pool: Pool) -> bool:
        """Bring one pool as far as it goes; whether it is worth another look soon."""
        refusal = ""
        for _ in range(PASSES_MAX):
            seen = replace(await self._seen(pool), refusal=refusal)
            ready = seen.deployment.ready if seen.deployment else 0
            self._agents[pool.name] = (pool.spec.replicas, ready)
            decision = plan.decide(seen, self.now())
            if (decision.apply or decision.status) and not self.may_act():
                raise Overtaken("this replica does not lead any more")
            if decision.apply is None:
                if decision.status is not None:
                    path = agentpools.path(self.namespace, pool.name)
                    told = agentpools.told(pool, decision.status)
                    await act.apply(self.api, f"{path}/status", told)
                    _tell(pool, decision.status)
                return decision.waits
            try:
                made = deployments.read(
                    await act.apply(
                        self.api, observe.deployment_path(self.namespace, pool.name), decision.apply
                    )
                )
            except (BadInput, Refused) as error:
                refusal = error.message
            else:
                digest = deployments.digest(decision.apply)
                self._applied[pool.uid] = Applied(digest, made.generation)
                log.info("pool.applied", pool=pool.name, replicas=pool.spec.replicas)
        raise Overtaken(f"pool {pool.name} is not settled after {PASSES_MAX} passes")

    def _measure(self) -> None:
        """Tell the agents of each pool in metrics."""
        metrics.POOL_AGENTS.clear()
        for pool, (wanted, ready) in self._agents.items():
            metrics.POOL_AGENTS.labels(pool, "wanted").inc(wanted)
            metrics.POOL_AGENTS.labels(pool, "ready").inc(ready)

    async def _seen(self, pool: Pool) -> Seen:
        name = deployments.template_name(self.fleet)
        template = await observe.pod_template(self.api, self.namespace, name)
        held = await observe.deployment(self.api, self.namespace, pool.name)
        seen = Seen(pool, template, held, applied=self._applied.get(pool.uid))
        if held is None or held.is_whole:
            return seen
        pods = await observe.waiters(self.api, self.namespace, deployments.selector(pool))
        waiting = [pod for pod in pods if not pod.is_ready and not pod.is_going]
        events = {
            pod.name: await observe.warnings(self.api, self.namespace, pod)
            for pod in waiting[: observe.ASKED_ABOUT_MAX]
        }
        return replace(seen, pods=pods, events=events)


def _tell(pool: Pool, status: agentpools.Status) -> None:
    """One line for each status that was written with another reason than before."""
    before = {each.type: each for each in pool.status.conditions}.get("Ready")
    now = status.conditions[0]
    if before is None or (before.reason, before.message) != (now.reason, now.message):
        log.info("pool.is", pool=pool.name, reason=now.reason, detail=now.message)
