"""An allowed client that takes all it can get, over real QUIC, does not delay other clients."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from midstreamer.agent import searching
from midstreamer.agent.config import AgentSettings
from midstreamer.agent.service import AgentService
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import DeadlineExceeded, MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import column
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Level
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Transaction
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from midstreamer.transport.carrier import Limits
from tests.support.fleet import (
    a_column,
    a_specification,
    a_universe,
    a_window,
    append,
    eventually,
    running,
)
from tests.support.identity_builders import Installation, who

pytestmark = [pytest.mark.integration, pytest.mark.each_carrier]

LINKS = 16
"""Maximum number of links for one identity."""
BUDGET_S = 300.0
COMMIT_S = 0.05
LOOKUP_S = 5.0
ROUNDS = 10
ANSWERED_S = 1.0
"""Maximum for the median duration of a round, in seconds. A round is one Append, then one Match.

A round waits for about four commits, each of which takes `COMMIT_S` seconds.
"""


class SlowStore(MemoryStore):
    """A store whose commits and look-ups are as slow as those of a busy PostgreSQL."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as transaction:
            await asyncio.sleep(COMMIT_S)
            yield transaction

    async def experiences(self, ids: Sequence[bytes]) -> tuple[list[Decision], list[Verdict]]:
        await asyncio.sleep(LOOKUP_S)
        return await super().experiences(ids)


@asynccontextmanager
async def a_fleet(place: Installation) -> AsyncIterator[CoordinatorService]:
    """Sync, a coordinator with a small outbox, and an agent, on one event loop."""
    searching.warm_up("auto")
    sync = SyncService(
        SyncSettings(listen="127.0.0.1:0"), place.carrier(who(Kind.SYNC, "s1")), SlowStore()
    )
    tasks = [asyncio.ensure_future(sync.run())]
    await eventually(lambda: not sync.complete_reasons())
    settings = CoordinatorSettings(
        listen="127.0.0.1:0",
        sync=sync.address,
        outbox_bytes_max=1 << 20,
        batch_bytes_max=64 * 1024,
    )
    coordinator = CoordinatorService(settings, place.carrier(who(Kind.COORDINATOR, "c1")))
    agent = AgentService(
        AgentSettings(sync=sync.address, threads=1, heartbeat_s=0.1),
        place.carrier(who(Kind.AGENT, "a1")),
    )
    tasks += [asyncio.ensure_future(service.run()) for service in (coordinator, agent)]
    await eventually(lambda: not (coordinator.complete_reasons() or agent.complete_reasons()))
    try:
        yield coordinator
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.wait([task])


async def again_and_again(
    request: Callable[[], Awaitable[object]], refused: list[str], *, pause_s: float = 3.0
) -> None:
    """Repeat a request forever: at once after an answer, and after ``pause_s`` when refused."""
    while True:
        try:
            await request()
        except MidstreamerError as error:
            refused.append(error.message)
            # The test is about places: without this pause, refused requests would use up the CPU.
            await asyncio.sleep(pause_s)


def far_match(peer: Peer, position: int) -> Callable[[], Awaitable[object]]:
    """Return a function that sends a Match for a feed position that the test never reaches."""
    points = a_column(64, series="walk/good")
    request = frames.Match(
        specification=a_specification(),
        windows=(a_window(points, 63, 16),),
        at_least=position + 9000,
    )
    return lambda: peer.ask(request, budget_s=BUDGET_S)


def endless_appends(peer: Peer, series: str) -> Callable[[], Awaitable[object]]:
    """Return a function that at each call sends an Append of 32 kB with new ticks.

    The coordinator answers as soon as it has received the ticks, before they are durable.
    """
    next_time = iter(range(0, 1 << 40, 2000))

    def request() -> Awaitable[object]:
        first = next(next_time)
        ticks = column(series, range(first, first + 2000), [1.0] * 2000)
        append = frames.Append(columns=(ticks,), level=Level.RECEIVED)
        return peer.ask(append, budget_s=BUDGET_S)

    return request


def slow_lookup(peer: Peer) -> Callable[[], Awaitable[object]]:
    request = frames.Lookup(experience_ids=(b"x" * 32,))
    return lambda: peer.ask(request, budget_s=BUDGET_S)


@asynccontextmanager
async def greed(place: Installation, address: str, position: int) -> AsyncIterator[list[str]]:
    """During the block, one client takes every place that it can get, over `LINKS` links.

    Yield a list to which the messages of its refused requests are added.
    """
    refused: list[str] = []
    me = place.carrier(who(Kind.CLIENT, "greedy"))
    links = [await peers.dial(me, address, expect=Kind.COORDINATOR) for _ in range(LINKS)]
    loads = []
    for number, peer in enumerate(links):
        loads += [again_and_again(far_match(peer, position), refused) for _ in range(20)]
        loads += [again_and_again(slow_lookup(peer), refused) for _ in range(20)]
        appends = endless_appends(peer, f"greedy/{number}")
        loads.append(again_and_again(appends, refused, pause_s=0.3))
    tasks = [asyncio.ensure_future(load) for load in loads]
    await asyncio.sleep(1.0)
    try:
        yield refused
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for peer in links:
            await peer.close()


async def rounds(client: Peer, first: int) -> list[float]:
    """Append a tick and match its window in each round; return the seconds of each round."""
    took_s = []
    loop = asyncio.get_running_loop()
    for at in range(first, first + ROUNDS):
        points = a_column(first + ROUNDS, series="walk/good")
        tick = column(
            "walk/good", points.times_array()[at : at + 1], points.values_array()[at : at + 1]
        )
        began_s = loop.time()
        done = await append(client, tick)
        request = frames.Match(
            specification=a_specification(),
            windows=(a_window(points, at, 16),),
            at_least=done.position,
        )
        assert isinstance(await client.ask(request, budget_s=20.0), frames.Matched)
        took_s.append(loop.time() - began_s)
    return took_s


async def test_a_greedy_client_delays_no_other(tmp_path: Path) -> None:
    place = Installation(tmp_path / "certs", Limits(handshake_s=10.0, idle_s=30.0))
    async with a_fleet(place) as coordinator:
        me = place.carrier(who(Kind.CLIENT, "good"))
        client = await peers.dial(me, coordinator.address, expect=Kind.COORDINATOR)
        points = a_column(64 + ROUNDS, series="walk/good")
        times, values = points.times_array()[:64], points.values_array()[:64]
        done = await append(client, column("walk/good", times, values))
        async with greed(place, coordinator.address, done.position) as refused:
            took_s = await rounds(client, 64)
        refusals = " ".join(refused)
        assert all(setting in refusals for setting in ("waits_max", "RELAYS_MAX", "outbox_bytes"))
        assert statistics.median(took_s) < ANSWERED_S
        assert max(took_s) < 5 * ANSWERED_S
        await client.close()


async def test_a_client_that_floods_the_agents_delays_no_other() -> None:
    universe, specification = a_universe(4, 2000), a_specification()
    asked = a_window(universe[0], 1999, 16)
    many = frames.Match(specification=specification, windows=(asked,) * 16, record=False)
    single = frames.Match(specification=specification, windows=(asked,), record=False)
    async with running(agents=("a1",), shard_points=2048) as fleet:
        good, greedy = await fleet.client("good"), await fleet.client("greedy")
        await append(good, *universe)
        # The first answer is slow, because the agent prepares its shards for the first search.
        await good.ask(single, budget_s=20.0)
        flood = [asyncio.ensure_future(greedy.ask(many, budget_s=BUDGET_S)) for _ in range(120)]
        await eventually(lambda: any(match.done() for match in flood))
        before = sum(match.done() for match in flood)
        await good.ask(single, budget_s=20.0)
        answered = sum(match.done() for match in flood) - before
        for match in flood:
            match.cancel()
    assert answered <= 16


async def test_searches_that_nobody_answers_leave_half_of_the_places_to_others() -> None:
    (points,) = a_universe(1, 100)
    request = frames.Match(specification=a_specification(), windows=(a_window(points, 99, 16),))
    async with running(agents=()) as fleet:  # without agents every search waits until its deadline
        good = await fleet.client("good")
        links = [await fleet.client("greedy") for _ in range(2)]
        await append(good, points)
        flood = [
            asyncio.ensure_future(links[number % 2].ask(request, budget_s=BUDGET_S))
            for number in range(400)
        ]
        await eventually(lambda: sum(match.done() for match in flood) >= 144)
        refusals = await asyncio.gather(
            *(each for each in flood if each.done()), return_exceptions=True
        )
        with pytest.raises(DeadlineExceeded, match="no connected agent holds"):
            # Without a place, this request would be refused at once. It waits until its deadline
            # instead, and this shows that it got a place.
            await good.ask(request, budget_s=0.5)
        for match in flood:
            match.cancel()
    assert all("client/greedy has 128 requests under way" in str(error) for error in refusals)
