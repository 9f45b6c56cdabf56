"""A client that creates series and streams without limit is refused; other clients are served."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from midstreamer.agent import searching
from midstreamer.agent.config import AgentSettings
from midstreamer.agent.service import AgentService
from midstreamer.client.api import AsyncClient
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.domain.errors import BadInput, MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Column, Window
from midstreamer.protocol import frames
from midstreamer.runtime.peer import Peer, dial
from midstreamer.store.memory import MemoryStore
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from tests.support.fleet import MINUTE, a_column, a_specification, a_window, eventually, match
from tests.support.identity_builders import Installation, who

pytestmark = [pytest.mark.integration, pytest.mark.each_carrier]

HERE = "127.0.0.1:0"
HELD_S_MAX = 0.1
SERIES_MAX, STREAMS_MAX = 3000, 6


class Fleet:
    """Sync, a coordinator and an agent in this process, over real QUIC."""

    def __init__(self, folder: Path) -> None:
        self.place = Installation(folder)
        self.store = MemoryStore()
        self.services: list[SyncService | CoordinatorService | AgentService] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        searching.warm_up("auto")  # this may compile kernels, so it runs before the services start
        carrier = self.place.carrier
        settings = SyncSettings(listen=HERE, series_max=SERIES_MAX, streams_max=STREAMS_MAX)
        sync = SyncService(settings, carrier(who(Kind.SYNC, "s1")), self.store)
        await self._run(sync)
        coordinating = CoordinatorSettings(listen=HERE, sync=sync.address)
        self.coordinator = CoordinatorService(coordinating, carrier(who(Kind.COORDINATOR, "c1")))
        await self._run(self.coordinator)
        agent = AgentSettings(id="a1", sync=sync.address, threads=1, heartbeat_s=0.1)
        await self._run(AgentService(agent, carrier(who(Kind.AGENT, "a1"))))
        await self.settled()

    async def _run(self, service: SyncService | CoordinatorService | AgentService) -> None:
        self.services.append(service)
        self.tasks.append(asyncio.create_task(service.run()))
        if not isinstance(service, AgentService):
            await eventually(lambda: bool(service.address))

    async def settled(self) -> None:
        """Wait until every service is ready and the coordinator has read the whole change feed."""
        await eventually(lambda: not self.reasons(), self.reasons)

    def reasons(self) -> list[str]:
        behind = self.store.head - self.coordinator.position
        reasons = [reason for service in self.services for reason in service.complete_reasons()]
        return reasons + ([f"the coordinator is {behind} changes behind"] if behind else [])

    async def client(self, name: str) -> Peer:
        carrier = self.place.carrier(who(Kind.CLIENT, name))
        return await dial(carrier, self.coordinator.address, expect=Kind.COORDINATOR)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(folder)
    try:
        await fleet.start()
        yield fleet
    finally:
        for task in reversed(fleet.tasks):
            task.cancel()
            await asyncio.wait([task])


class Held:
    """Measures the longest time for which one turn blocked the event loop, in seconds of CPU time.

    The CPU time is that of the loop's thread, so other processes on the machine cannot fail a test.
    """

    def __init__(self) -> None:
        self.most_s = 0.0
        gc.collect()
        gc.freeze()  # garbage of earlier tests must not be collected during the measurement

    async def watch(self) -> None:
        while True:
            began_s = time.thread_time()
            await asyncio.sleep(0.001)
            self.most_s = max(self.most_s, time.thread_time() - began_s)


def columns(count: int, ticks: int = 1, *, universe: str = "greedy") -> tuple[Column, ...]:
    times, values = np.arange(ticks, dtype="<i8") * MINUTE, np.ones(ticks)
    return tuple(
        Column(f"{universe}/{number}", times.tobytes(), values.tobytes()) for number in range(count)
    )


async def refusal(peer: Peer, *several: Column) -> str:
    try:
        await peer.ask(frames.Append(columns=several), budget_s=30)
    except BadInput as error:
        return f"{error.code}: {error.message}"
    return ""


async def held_s(attack: asyncio.Task[str]) -> float:
    """Wait until the attack has ended; return the CPU seconds of the event loop's longest turn."""
    held = Held()
    watching = asyncio.create_task(held.watch())
    await attack
    watching.cancel()
    return held.most_s


@pytest.mark.parametrize(("count", "ticks"), [(60_000, 1), (100_000, 0)])
async def test_more_columns_than_allowed_are_refused_and_hold_nobody_up(
    tmp_path: Path, count: int, ticks: int
) -> None:
    async with running(tmp_path) as fleet:
        greedy, other = await fleet.client("greedy"), await fleet.client("other")
        attack = asyncio.create_task(refusal(greedy, *columns(count, ticks)))
        held = await held_s(attack)
        assert (
            attack.result()
            == f"bad_input: {count:,} columns in one Append, at most 1,024 are allowed:"
            " split the Append"
        )
        assert await refusal(other, a_column(20)) == ""
        assert held < HELD_S_MAX
        await fleet.settled()


async def test_series_beyond_the_quota_are_refused_and_others_work_on(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        greedy, other = await fleet.client("greedy"), await fleet.client("other")
        assert await refusal(greedy, *columns(1000)) == ""
        await fleet.settled()
        attack = asyncio.create_task(refusal(greedy, *columns(1024, universe="more")))
        held = await held_s(attack)
        assert attack.result() == (
            "quota_exceeded: client/greedy: 1,024 new series were requested and it has made 1,000;"
            " the limit sync.series_per_identity_max is 1,500: append to series that exist, or"
            " raise the limit"
        )
        history = a_column(100)
        assert await refusal(other, history) == ""
        assert await refusal(greedy, *columns(1000, 2)) == ""
        assert held < HELD_S_MAX
        await fleet.settled()
        assert (await match(other, a_specification(), a_window(history, 99, 16))).decisions


async def test_streams_beyond_the_quota_are_refused_and_others_work_on(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        greedy, other = await fleet.client("greedy"), await fleet.client("other")
        history = a_column(100)
        done = await greedy.ask(frames.Append(columns=(history,)), budget_s=30)
        await fleet.settled()

        async def record(peer: Peer, target: float) -> str:
            asked = a_specification(target=target), a_window(history, 99, 16)
            try:
                await match(peer, *asked, at_least=done.position)
            except MidstreamerError as error:
                return f"{error.code}: {error.message}"
            return ""

        targets = [0.6 + place / 100 for place in range(5)]
        found: list[str] = []
        for target in targets:
            attack = asyncio.create_task(record(greedy, target))
            assert await held_s(attack) < HELD_S_MAX
            found.append(attack.result())
        assert found[:3] == ["", "", ""]
        assert all(
            error.startswith("quota_exceeded: client/greedy: 1 new streams") for error in found[3:]
        )
        assert await record(greedy, targets[0]) == ""
        assert await record(other, 0.7) == ""
        assert len(fleet.store.state_of) == 4


async def test_the_sdk_splits_what_one_append_does_not_take(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        carrier = fleet.place.carrier(who(Kind.CLIENT, "u1"))
        async with AsyncClient(carrier, [fleet.coordinator.address]) as client:
            receipt = await client.append(columns(1500, 16))
        assert (receipt.stored, len(fleet.store.series)) == (24_000, 1500)


async def test_appends_of_nothing_at_once_do_not_stop_the_coordinator(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        client = await fleet.client("u1")
        nothing = [client.ask(frames.Append(columns=()), budget_s=5) for _ in range(20)]
        answers = await asyncio.gather(*nothing)
        assert all(isinstance(each, frames.Appended) and each.stored == 0 for each in answers)
        answer = await client.ask(frames.Append(columns=(a_column(1),)), budget_s=5)
        assert isinstance(answer, frames.Appended)
        await client.close()


async def test_a_window_at_no_time_that_can_be_stored_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        client, specification = await fleet.client("u1"), a_specification()
        await client.ask(frames.Append(columns=(a_column(400),)), budget_s=5)
        await fleet.settled()
        values = a_column(400).values[: 8 * specification.window]
        beyond = frames.Match(specification=specification, windows=(Window("", 2**63, values),),
                              level=frames.Level.RECEIVED)  # fmt: skip
        with pytest.raises(BadInput, match="64 bits"):
            await client.ask(beyond, budget_s=5)
        await client.close()
