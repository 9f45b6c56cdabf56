"""The running fleet in which `dashboards.faults` causes faults, and helpers that faults share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.observed.fleet import Observed
from tests.rolling.plan import Version
from tests.support.prometheus import Prometheus

AGENTS, COORDINATORS, SYNCS = ("a1", "a2", "a3"), ("c1", "c2"), ("s1", "s2")
"""Names of the members of the fleet."""


@dataclass(frozen=True)
class World:
    """A running fleet and the Prometheus that scrapes it."""

    seen: Observed
    """The fleet."""
    asked: Prometheus
    folder: Path
    """Folder for temporary files."""

    @property
    def certs(self) -> Path:
        """The folder with the certificates of the fleet."""
        return self.seen.fleet.state.certs


Make = Callable[[World], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault, how to cause it, and the alerts that it makes fire."""

    name: str
    alerts: tuple[str, ...]
    make: Make
    within_s: float = 90.0
    """Longest wait for the alerts of this fault to fire, in seconds."""


async def begin(world: World, name: str) -> None:
    """Start the process with this name. If it is a member of the fleet, do not wait for it.

    A member may need other processes, which do not run yet, before it is ready.
    """
    if name in world.seen.fleet.places:
        await world.seen.fleet.begin(name, Version.NEW)
    else:
        await world.seen.begin(name)


async def again(world: World, name: str) -> None:
    """Stop a process by its name gracefully, and start it again."""
    await world.seen.end(name)
    await world.seen.begin(name)


@asynccontextmanager
async def meanwhile(work: Callable[[], Awaitable[None]], several: int = 1) -> AsyncIterator[None]:
    """Run ``several`` background tasks that repeat ``work``, until the block ends."""

    async def go() -> None:
        while True:
            await work()

    tasks = [asyncio.create_task(go()) for _ in range(several)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
