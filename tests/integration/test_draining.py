"""Services of a fleet that runs in one process drain, and no request fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from midstreamer.agent import ownership, service
from midstreamer.client.api import AsyncClient
from midstreamer.domain import identity, shard
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import window
from midstreamer.domain.shard import Shard, agents_digest
from midstreamer.protocol import frames
from midstreamer.runtime.fleet_member import Membership
from midstreamer.runtime.lifecycle import Stage
from midstreamer.runtime.peer import Peer, Session, listen
from midstreamer.transport.memory import MemoryCarrier
from tests.support.fleet import (
    SYNC_ADDRESS,
    Fleet,
    a_column,
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
    """A client that sends one match after another and counts the answers."""

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
    """Send requests all the time; an error of the client fails the test."""
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


async def test_an_agent_without_a_lease_hears_that_the_others_hold_its_shards_later_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # `understood` is false if an agent of an old version is in the fleet. Such an agent does not
    # know that members can drain. So the draining agent a1 gives up its own lease. It then reads
    # the leases of a2 and a3 every DRAIN_TOLD_S seconds. The lease of an agent says that the agent
    # has loaded all shards assigned to it (`whole_for`), and at which feed position this was true
    # (`whole_at`). a1 leaves once both leases say so, with positions that are not below the
    # `_listed_at` of a1's core. The test sets `_listed_at` so high that only the append below
    # reaches it.
    monkeypatch.setattr(service, "DRAIN_TOLD_S", 0.1)
    monkeypatch.setattr(ownership.Core, "understood", False)
    digest = agents_digest(["agent/a2", "agent/a3"])
    async with running(agents=("a1", "a2", "a3")) as fleet:
        client = await fleet.client()
        await append(client, *UNIVERSE)
        await fleet.settled(agents=3)
        core = fleet.agent("a1")._core
        with monkeypatch.context() as held_up:
            held_up.setattr(core, "_safe", frozenset)
            draining = asyncio.create_task(fleet.drain("a1"))
            await eventually(lambda: [m.whole_for for m in _agents(core)] == [digest] * 2)
            core._listed_at = core._position + 1
        await append(
            client, *(a_column(610, series=points.series, first=600) for points in UNIVERSE)
        )
        await draining
        await client.close()


def _agents(core: ownership.Core) -> list[frames.Member]:
    return [member for member in core.members if member.name.startswith("agent/")]


class _Before:
    """A coordinator of an older version.

    It ignores Drain: it sends Searches to an agent as long as the agent reports a shard.
    """

    def __init__(self) -> None:
        self.held: dict[str, set[Shard]] = {}
        self.asking: set[asyncio.Task[None]] = set()
        self.agrees = True
        """Whether count and digest of each Holdings frame fitted the shards reported until then."""

    async def handle(self, peer: Peer, frame: frames.Frame) -> None:
        assert isinstance(frame, frames.Holdings)
        name = peer.identity.name
        begun = name not in self.held
        held = self.held.setdefault(name, set())
        held.update(frame.shards)
        held.difference_update(frame.dropped)
        if not frame.more:
            self.agrees &= (frame.count, frame.digest) == (len(held), shard.digest(held))
        if begun:
            tasks = [asyncio.create_task(self._ask(peer)) for _ in range(8)]
            self.asking.update(tasks)

    async def _ask(self, peer: Peer) -> None:
        specification = a_specification()
        values = UNIVERSE[0].values_array()[-specification.window :]
        asked = window(values, time=int(UNIVERSE[0].times_array()[-1]))
        while shards := tuple(self.held[peer.identity.name]):
            await peer.ask(
                frames.Search(specification=specification, windows=(asked,) * 8, shards=shards)
            )


@asynccontextmanager
async def _a_coordinator_of_the_version_before(fleet: Fleet) -> AsyncIterator[_Before]:
    before = _Before()
    me = MemoryCarrier(
        fleet.network, identity.make("local", Kind.COORDINATOR, "c0"), capabilities=()
    )
    listener = await listen(me, "c0:1", handle=before.handle)
    session = Session(me, SYNC_ADDRESS, expect=Kind.SYNC)
    lease = Membership(
        session,
        lambda: frames.Member("coordinator/c0", me.incarnation, "c0:1"),
        lambda _fleet: None,
    )
    tasks = [asyncio.create_task(session.run()), asyncio.create_task(lease.run())]
    try:
        yield before
    finally:
        for task in (*tasks, *before.asking):
            task.cancel()
        await asyncio.wait({*tasks, *before.asking})
        await listener.close()


async def test_an_agent_leaves_though_a_coordinator_of_the_version_before_asks_all_the_time() -> (
    None
):
    async with running(agents=("a1", "a2", "a3")) as fleet:
        await append(await fleet.client(), *UNIVERSE)
        await fleet.settled(agents=3)
        async with _a_coordinator_of_the_version_before(fleet) as before:
            await eventually(lambda: bool(before.held.get("agent/a1")))
            await fleet.drain("a1")
            assert before.held["agent/a1"] == set()
            assert before.agrees


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
    # Sync drains at the same time, so no agent hears from sync which shards the other agent holds.
    # Even so, every service must stop.
    async with running(agents=("a1", "a2")) as fleet:
        await append(await fleet.client(), *a_universe(3, 600))
        await fleet.settled(agents=2)
        async with asyncio.timeout(15):
            await asyncio.gather(*map(fleet.drain, list(fleet.services)))
        assert not fleet.services
