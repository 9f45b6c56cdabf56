"""A fleet in one process: real services on a memory network and a memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from midstreamer import reasoning
from midstreamer.agent import searching
from midstreamer.agent.config import AgentSettings
from midstreamer.agent.service import AgentService
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.domain import identity
from midstreamer.domain.decision import Decision, Evidence
from midstreamer.domain.identity import Kind
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Column, Floats, Window, column, window
from midstreamer.domain.specification import Scale, Specification, Transform
from midstreamer.protocol import frames
from midstreamer.runtime.peer import Peer, dial
from midstreamer.security.allowlist import Allowlist
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Store
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork

SYNC_ADDRESS = "sync:1"
WITHIN_S = 20.0
MINUTE = 60_000_000


Listed = Callable[[], Allowlist]


def carrier(
    network: MemoryNetwork, kind: Kind, name: str, allowlist: Listed | None = None
) -> MemoryCarrier:
    return MemoryCarrier(network, identity.make("local", kind, name), allowlist=allowlist)


@dataclass
class Fleet:
    """A fleet whose services a test starts and stops by name."""

    network: MemoryNetwork
    store: Store
    shard_points: int = 256
    lease_s: float = 0.6
    allowlist: Listed | None = None
    """Entries of the coordinators' allowlist; None admits every client."""
    services: dict[str, AgentService | CoordinatorService | SyncService] = field(
        default_factory=dict
    )
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def start_sync(self) -> None:
        config = SyncSettings(
            listen=SYNC_ADDRESS, shard_points=self.shard_points, lease_s=self.lease_s
        )
        service = SyncService(config, carrier(self.network, Kind.SYNC, "s1"), self.store)
        await self._start("s1", service)

    async def start_agent(self, name: str, *, engine: str = "auto", searches_max: int = 64) -> None:
        config = AgentSettings(
            id=name,
            sync=SYNC_ADDRESS,
            engine=engine,
            threads=1,
            heartbeat_s=0.1,
            searches_max=searches_max,
        )
        await self._start(name, AgentService(config, carrier(self.network, Kind.AGENT, name)))

    async def start_coordinator(self, name: str, *, spool_dir: Path | None = None) -> None:
        config = CoordinatorSettings(
            id=name, listen=f"{name}:1", sync=SYNC_ADDRESS, spool_dir=spool_dir, patience_s=0.3
        )
        me = carrier(self.network, Kind.COORDINATOR, name, self.allowlist)
        await self._start(name, CoordinatorService(config, me))

    async def _start(
        self, name: str, service: AgentService | CoordinatorService | SyncService
    ) -> None:
        ready = asyncio.Event()
        self.services[name] = service
        self.tasks[name] = asyncio.get_running_loop().create_task(service.run(ready=ready))
        if isinstance(service, SyncService):
            await ready.wait()

    def agent(self, name: str) -> AgentService:
        service = self.services[name]
        assert isinstance(service, AgentService)
        return service

    def coordinator(self, name: str = "c1") -> CoordinatorService:
        service = self.services[name]
        assert isinstance(service, CoordinatorService)
        return service

    async def stop(self, name: str) -> None:
        """Cancel a service and wait until its task ends."""
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.wait([task])
        del self.services[name]

    async def drain(self, name: str) -> None:
        """Drain a service as SIGTERM does, and wait until its task ends by itself."""
        service, task = self.services[name], self.tasks.pop(name)
        service.life.drain("a test")
        async with asyncio.timeout(WITHIN_S):
            await task
        del self.services[name]

    async def settled(self, *, agents: int) -> None:
        """Wait until every service is ready and every agent has loaded its shards."""
        await eventually(
            lambda: (
                all(not service.complete_reasons() for service in self.services.values())
                and len(self.coordinator()._dispatcher._core.agents()) == agents
            ),
            lambda: {name: service.complete_reasons() for name, service in self.services.items()},
        )

    async def client(self, name: str = "u1", coordinator: str = "c1") -> Peer:
        return await dial(
            carrier(self.network, Kind.CLIENT, name), f"{coordinator}:1", expect=Kind.COORDINATOR
        )


async def eventually(holds: Callable[[], bool], explain: Callable[[], object] = lambda: "") -> None:
    """Check on every turn of the loop until a condition holds; fail after `WITHIN_S` seconds."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not holds():  # noqa: ASYNC110 - the condition has no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"still not true after {WITHIN_S:g} s: {explain()}") from None


@asynccontextmanager
async def running(
    *,
    agents: Sequence[str] = ("a1", "a2", "a3"),
    shard_points: int = 256,
    spool_dir: Path | None = None,
    allowlist: Listed | None = None,
    store: Store | None = None,
) -> AsyncIterator[Fleet]:
    """A ready fleet with one coordinator; it stops when the block ends.

    Without ``store`` the fleet uses a `MemoryStore`.
    """
    searching.warm_up("auto")  # this may compile kernels, so it runs before the services start
    fleet = Fleet(MemoryNetwork(), store or MemoryStore(), shard_points, allowlist=allowlist)
    await fleet.start_sync()
    await fleet.start_coordinator("c1", spool_dir=spool_dir)
    for name in agents:
        await fleet.start_agent(name)
    try:
        await fleet.settled(agents=len(agents))
        yield fleet
    finally:
        for name in reversed(list(fleet.tasks)):
            await fleet.stop(name)


# --- data ---------------------------------------------------------------------------------------


def a_walk(points: int, *, seed: int = 1, least: float = 20.0) -> Floats:
    """A random walk that stays above zero, so that every value has a logarithm."""
    steps = np.random.default_rng(seed).normal(size=points)
    walk = np.cumsum(steps)
    return np.asarray(walk - walk.min() + least)


def a_column(points: int, *, series: str = "walk/a", seed: int = 1, first: int = 0) -> Column:
    """The points ``first`` to ``points - 1`` of a random walk with one point per minute."""
    times = np.arange(first, points, dtype=np.int64) * MINUTE
    return column(series, times, a_walk(points, seed=seed)[first:])


def a_universe(series: int, points: int, *, universe: str = "walk") -> list[Column]:
    return [
        a_column(points, series=f"{universe}/{number:02d}", seed=number) for number in range(series)
    ]


def a_window(points: Column, end: int, length: int) -> Window:
    """A window of a column; the window's last point is the one at index ``end`` of the column."""
    values = points.values_array()[end - length + 1 : end + 1]
    return window(values, series=points.series, time=int(points.times_array()[end]))


def a_specification(**changes: object) -> Specification:
    given: dict[str, object] = {
        "universe": "walk",
        "window": 16,
        "horizon": 3,
        "neighbours": 10,
        "band": 2,
        "grid": 4,
        "transform": Transform.IDENTITY,
        "scale": Scale.VOLATILITY,
    }
    return Specification(**(given | changes))  # type: ignore[arg-type]


async def append(client: Peer, *columns: Column) -> frames.Appended:
    answer = await client.ask(frames.Append(columns=columns), budget_s=WITHIN_S)
    assert isinstance(answer, frames.Appended)
    return answer


async def match(
    client: Peer, specification: Specification, *windows: Window, at_least: int = 0
) -> frames.Matched:
    request = frames.Match(specification=specification, windows=windows, at_least=at_least)
    answer = await client.ask(request, budget_s=WITHIN_S)
    assert isinstance(answer, frames.Matched)
    return answer


def a_decision(*, seed: int = 1, index: int = 40) -> Decision:
    """The decision about the window that ends at ``index`` of a random walk.

    It is made without analogs, and before anything has been learned.
    """
    specification = a_specification()
    points = a_column(index + 1, seed=seed)
    evidence = Evidence(specification, a_window(points, index, 16), Matches(), index=index)
    return reasoning.decide(evidence, reasoning.initial(specification))
