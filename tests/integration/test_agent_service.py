"""A single agent: what it refuses, how it waits for feed positions, and how it recovers."""

from __future__ import annotations

import asyncio
import statistics
import time
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from midstreamer.agent.config import AgentSettings
from midstreamer.agent.service import AgentService
from midstreamer.domain import errors, identity
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Column
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import WINDOW_MAX, Measure
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Found, Member, Search
from midstreamer.runtime import feed_following
from midstreamer.runtime.peer import Peer
from midstreamer.transport.memory import MemoryNetwork
from tests.support.fleet import (
    SYNC_ADDRESS,
    a_column,
    a_specification,
    a_universe,
    a_window,
    append,
    carrier,
    eventually,
    running,
)

pytestmark = pytest.mark.integration

(WALK,) = a_universe(1, 300)
SEARCH = Search(
    specification=a_specification(),
    windows=(a_window(WALK, 299, 16),),
    shards=(Shard("walk/00", 0),),
    budget_s=0.2,
)


async def asked(service: AgentService, request: frames.Request) -> frames.Answer | None:
    coordinator = identity.make("local", Kind.COORDINATOR, "c1")
    return await service._handle(cast(Peer, SimpleNamespace(identity=coordinator)), request)


def dearest(measure: Measure, history: Column, shards: tuple[Shard, ...]) -> Search:
    """Return the slowest possible search: the longest window, the widest band, every position."""
    specification = a_specification(
        window=WINDOW_MAX, band=WINDOW_MAX, grid=1, measure=measure, epsilon=0.1
    )
    window = a_window(history, 3 * WINDOW_MAX - 1, WINDOW_MAX)
    return Search(specification=specification, windows=(window,), shards=shards, budget_s=60.0)


async def turn_s(service: AgentService) -> float:
    """Return how long new work waits until the agent's only thread is free, in seconds."""
    begun = time.perf_counter()
    started = await asyncio.get_running_loop().run_in_executor(service._pool, time.perf_counter)
    return started - begun


async def test_an_agent_answers_for_the_shards_it_holds() -> None:
    async with running(agents=("a1",)) as fleet:
        await append(await fleet.client(), WALK)
        service = fleet.agent("a1")
        await eventually(lambda: Shard("walk/00", 0) in service.holdings)
        found = await asked(service, SEARCH)
        assert isinstance(found, Found)
        assert found.position == service.position
        elsewhere = msgspec.structs.replace(SEARCH, shards=(Shard("walk/00", 9),))
        with pytest.raises(errors.Unavailable, match="shard 9 is not held"):
            await asked(service, elsewhere)


@pytest.mark.parametrize("measure", Measure)
async def test_a_search_whose_asker_has_left_frees_its_thread_at_once(measure: Measure) -> None:
    async with running(agents=("a1",), shard_points=4 * WINDOW_MAX) as fleet:
        history = a_column(3 * WINDOW_MAX, series="walk/00")
        await append(await fleet.client(), history)
        service = fleet.agent("a1")
        await eventually(lambda: service.holdings != ())
        dear = dearest(measure, history, service.holdings)
        waits_ms = []
        for after_s in (0.02, 0.1, 0.3, 0.6, 1.0):
            asking = asyncio.ensure_future(asked(service, dear))
            await asyncio.wait([asking], timeout=after_s)
            assert not asking.done()
            asking.cancel()
            await asyncio.wait([asking])
            waits_ms.append(1000.0 * await turn_s(service))
        assert statistics.median(waits_ms) < 5.0


async def test_a_search_ends_when_its_time_is_up_in_the_midst_of_a_comparison() -> None:
    async with running(agents=("a1",), shard_points=4 * WINDOW_MAX) as fleet:
        history = a_column(3 * WINDOW_MAX, series="walk/00")
        await append(await fleet.client(), history)
        service = fleet.agent("a1")
        await eventually(lambda: service.holdings != ())
        dear = dearest(Measure.LCSS, history, service.holdings)
        begun = time.perf_counter()
        with pytest.raises(errors.DeadlineExceeded):
            await asked(service, msgspec.structs.replace(dear, budget_s=0.4))
        assert time.perf_counter() - begun < 0.5
        assert await turn_s(service) < 0.1


async def test_an_agent_waits_for_a_position_and_then_says_it_is_behind() -> None:
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        await append(client, WALK)
        service = fleet.agent("a1")
        far = msgspec.structs.replace(SEARCH, at_least=service.position + 1, budget_s=10.0)
        asking = asyncio.ensure_future(asked(service, far))
        await append(client, *a_universe(1, 20, universe="other"))
        assert isinstance(await asking, Found)
        too_far = msgspec.structs.replace(SEARCH, at_least=10_000, budget_s=0.05)
        with pytest.raises(errors.Behind, match="position 10000 was asked for"):
            await asked(service, too_far)


async def test_an_agent_that_is_full_says_when_to_come_back() -> None:
    network = MemoryNetwork()
    config = AgentSettings(sync=SYNC_ADDRESS, waits_max=1, threads=1)
    service = AgentService(config, carrier(network, Kind.AGENT, "a1"))
    # The feed never reaches the position that this search waits for. Its budget is longer than that
    # of the next search, so it still has the place when the next one gives up.
    patient = msgspec.structs.replace(SEARCH, budget_s=30.0)
    waiting = asyncio.ensure_future(asked(service, patient))
    await asyncio.sleep(0)
    with pytest.raises(errors.Overloaded, match="agent.waits_max=1") as refused:
        await asked(service, SEARCH)
    assert refused.value.retry_after_s > 0
    waiting.cancel()


async def test_a_window_of_another_length_is_refused() -> None:
    async with running(agents=("a1",)) as fleet:
        await append(await fleet.client(), WALK)
        odd = msgspec.structs.replace(SEARCH, windows=(a_window(WALK, 299, 15),))
        with pytest.raises(errors.BadInput, match="window of 15 values"):
            await asked(fleet.agent("a1"), odd)


async def test_an_agent_answers_nothing_but_searches() -> None:
    service = AgentService(AgentSettings(), carrier(MemoryNetwork(), Kind.AGENT, "a1"))
    with pytest.raises(errors.BadInput, match="does not answer Survey"):
        await asked(service, frames.Survey())
    assert len(service.complete_reasons()) == 2


async def test_history_that_was_there_before_the_agent_is_loaded() -> None:
    async with running(agents=("a1",), shard_points=64) as fleet:
        await append(await fleet.client(), *a_universe(2, 300))
        await fleet.start_agent("a2")
        await fleet.settled(agents=2)
        assert fleet.agent("a2").holdings == fleet.agent("a1").holdings
        assert len(fleet.agent("a2").holdings) == 10


async def test_an_agent_that_missed_changes_for_good_begins_anew() -> None:
    async with running(agents=("a1",)) as fleet:
        await append(await fleet.client(), WALK)
        service = fleet.agent("a1")
        await eventually(lambda: len(service.holdings) == 2)
        before, forgotten = service.position, asyncio.Event()

        class Trimmed:
            """The feed for an agent whose next changes have been trimmed."""

            closed = False

            async def ask(self, request: frames.Request, *, budget_s: float) -> frames.Answer:
                forgotten.set()
                raise errors.LinkClosed("the test has seen the request")

            def follow(self, tail: frames.Tail) -> object:
                raise errors.Behind("trimmed")

        await service._follower.follow(Trimmed())  # type: ignore[arg-type]
        assert forgotten.is_set()
        assert service.holdings == ()
        assert service.position == feed_following.UNKNOWN < before


async def test_a_coordinator_that_joins_while_an_agent_stops_is_not_dialled() -> None:
    agent = AgentService(AgentSettings(), carrier(MemoryNetwork(), Kind.AGENT, "a1"))
    # The agent is not running, so it must not dial the coordinator.
    agent._joined((Member("coordinator/c1", "i", "c1:1"),), 0)
    assert agent._coordinators == {}
