"""Services that drain, in one process: nobody who asks meanwhile sees a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from midstreamer.client.api import AsyncClient
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import window
from midstreamer.protocol import frames
from midstreamer.runtime.lifecycle import Stage
from tests.support.fleet import (
    Fleet,
    a_specification,
    a_universe,
    append,
    carrier,
    eventually,
    running,
)

pytestmark = pytest.mark.integration
UNIVERSE = a_universe(3, 600)


class _Load:
    """A client that asks one match after another, and counts."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.answered = 0

    async def run(self) -> None:
        specification = a_specification()
        values = UNIVERSE[0].values_array()[-specification.window :]
        time = int(UNIVERSE[0].times_array()[-1])
        asked = [window(values, series=UNIVERSE[0].series, time=time)]
        while True:
            await self.client.match_many(asked, specification, record=False)
            self.answered += 1

    async def goes_on(self, more: int = 5) -> None:
        until = self.answered + more
        await eventually(lambda: self.answered >= until)


@asynccontextmanager
async def _asked(fleet: Fleet, *coordinators: str) -> AsyncIterator[_Load]:
    """Somebody asks all the time; an error of his ends the test."""
    client = AsyncClient(
        carrier(fleet.network, Kind.CLIENT, "u1"), [f"{name}:1" for name in coordinators]
    )
    async with client:
        await client.append(UNIVERSE)
        load = _Load(client)
        task = asyncio.create_task(load.run())
        try:
            await load.goes_on()
            yield load
            await load.goes_on()
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_an_agent_leaves_once_the_others_hold_its_shards() -> None:
    async with running(agents=("a1", "a2", "a3")) as fleet, _asked(fleet, "c1") as load:
        agent = fleet.agent("a1")
        held = set(agent.holdings)
        assert held
        await fleet.drain("a1")
        assert agent.life.stage is Stage.STOPPED
        for name in ("a2", "a3"):
            assert held <= set(fleet.agent(name).holdings)
        await load.goes_on(20)


async def test_the_only_agent_leaves_at_once() -> None:
    async with running(agents=("a1",)) as fleet:
        await fleet.drain("a1")


async def test_a_coordinator_sends_its_callers_to_the_other() -> None:
    async with running(agents=("a1", "a2")) as fleet:
        await fleet.start_coordinator("c2")
        await fleet.settled(agents=2)
        async with _asked(fleet, "c1", "c2") as load:
            await fleet.drain("c1")
            await load.goes_on(20)
            await fleet.start_coordinator("c1")
            await fleet.drain("c2")
            await load.goes_on(20)
            await fleet.start_coordinator("c2")


async def test_callers_of_the_only_coordinator_wait_for_its_successor() -> None:
    async with running(agents=("a1", "a2")) as fleet, _asked(fleet, "c1") as load:
        await fleet.drain("c1")
        await fleet.start_coordinator("c1")
        await load.goes_on(20)


async def test_what_waits_to_be_written_is_written_before_a_coordinator_stops() -> None:
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        request = frames.Append(columns=tuple(UNIVERSE), level=frames.Level.RECEIVED)
        await client.ask(request, budget_s=5)
        await fleet.drain("c1")
        totals = await fleet.store.totals()
        assert totals.ticks == sum(map(len, UNIVERSE))
        await client.close()
        await fleet.start_coordinator("c1")


async def test_a_fleet_that_drains_all_at_once_comes_to_its_end() -> None:
    # Sync and the coordinator are gone at once: nobody tells an agent what the others hold.
    async with running(agents=("a1", "a2")) as fleet:
        await append(await fleet.client(), *a_universe(3, 600))
        await fleet.settled(agents=2)
        async with asyncio.timeout(15):
            await asyncio.gather(*map(fleet.drain, list(fleet.services)))
        assert not fleet.services
