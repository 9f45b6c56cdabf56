"""What a fault is made on, and what all faults are made with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.observed.fleet import Observed
from tests.rolling.plan import Version
from tests.support.prometheus import Prometheus


@dataclass(frozen=True)
class World:
    """What a fault is made on."""

    seen: Observed
    asked: Prometheus
    folder: Path

    @property
    def certs(self) -> Path:
        """Where the identities of the fleet lie."""
        return self.seen.fleet.state.certs


Make = Callable[[World], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault, and the alerts that it makes fire."""

    name: str
    alerts: tuple[str, ...]
    make: Make
    within_s: float = 90.0
    """So long its alerts are waited for."""


async def begin(world: World, name: str) -> None:
    """Start something again; a member is not waited for."""
    if name in world.seen.fleet.places:
        await world.seen.fleet.begin(name, Version.NEW)
    else:
        await world.seen.begin(name)


async def again(world: World, name: str) -> None:
    """End something in order, and start it anew."""
    await world.seen.end(name)
    await world.seen.begin(name)


@asynccontextmanager
async def meanwhile(work: Callable[[], Awaitable[None]], several: int = 1) -> AsyncIterator[None]:
    """Do this again and again."""

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
