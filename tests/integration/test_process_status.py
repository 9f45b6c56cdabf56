"""What a fleet shows of its processes: contents of leases, readiness, and requests to drain."""

from __future__ import annotations

import asyncio
import re

import pytest
import typer

from midstreamer.cli import fleet_queries
from midstreamer.client.api import AsyncClient
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.domain.errors import BadInput, NotGranted
from midstreamer.domain.identity import Kind
from midstreamer.protocol.capabilities import OURS
from midstreamer.protocol.frames import Member
from midstreamer.security import allowlist
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import FleetView
from midstreamer.transport.memory import MemoryNetwork
from tests.support import fleet
from tests.support.client_builders import QUICK, a_carrier
from tests.support.fleet import Fleet, eventually

pytestmark = pytest.mark.integration

CONTEXT = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
LISTED = "sync/*\ncoordinator/*\nagent/*\noperator/*\nclient/*\nclient/ops  drain\n"


def a_client(running: Fleet, kind: Kind = Kind.CLIENT, name: str = "u1") -> AsyncClient:
    carrier = a_carrier(running.network, kind, name)
    return AsyncClient(carrier, ["c1:1"], deadline_s=10.0, policy=QUICK)


async def told_of(client: AsyncClient) -> dict[str, Member]:
    return {member.name: member for member in (await client.members()).members}


async def test_every_member_tells_how_it_stands() -> None:
    async with fleet.running(agents=("a1",)) as running, a_client(running) as client:
        await client.append([fleet.a_column(300)])
        await running.settled(agents=1)
        # In this time each process renews its lease three times.
        await asyncio.sleep(running.lease_s)
        members = await told_of(client)
    assert sorted(members) == ["agent/a1", "coordinator/c1", "sync/s1"]
    for member in members.values():
        assert member.evidence["stage"] == "serving"
        assert member.evidence["complete"] == "yes"
        assert member.evidence["capabilities"].split() == list(OURS)
        assert 0.0 <= float(member.evidence["busy"]) <= 1.0
    assert members["agent/a1"].held > 0


class Leases(MemoryStore):
    """A store that records each lease request."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Member] = []

    async def renew(self, member: Member, lease_s: float) -> FleetView:
        self.asked.append(member)
        return await super().renew(member, lease_s)


async def test_the_first_lease_of_a_process_tells_as_much_as_the_next() -> None:
    store = Leases()
    async with fleet.running(agents=("a1",), store=store) as running:
        await asyncio.sleep(running.lease_s)
    first = {member.name: member for member in reversed(store.asked)}
    assert sorted(first) == ["agent/a1", "coordinator/c1", "sync/s1"]
    for name, member in first.items():
        assert "stage" in member.evidence, name
        assert member.evidence["capabilities"].split() == list(OURS), name


async def test_a_fleet_at_rest_writes_nothing_into_the_feed() -> None:
    store = MemoryStore()
    async with fleet.running(agents=("a1",), store=store) as running, a_client(running) as client:
        await asyncio.sleep(running.lease_s)
        before = store.head, await told_of(client)
        await asyncio.sleep(3 * running.lease_s)
        after = store.head, await told_of(client)
    assert before[0] == after[0]
    assert {name: member.incarnation for name, member in before[1].items()} == {
        name: member.incarnation for name, member in after[1].items()
    }


async def test_a_coordinator_stays_ready_while_a_shard_or_sync_is_missing() -> None:
    async with fleet.running(agents=("a1",)) as running, a_client(running) as client:
        await client.append([fleet.a_column(300)])
        await running.settled(agents=1)
        coordinator = running.coordinator()
        await running.stop("a1")
        await eventually(
            lambda: "held by no connected agent" in "".join(coordinator.complete_reasons())
        )
        without_agent = coordinator.serving_reasons()
        await running.stop("s1")
        await eventually(lambda: "no connection to sync" in coordinator.complete_reasons()[0])
        without_sync = coordinator.serving_reasons()
        coordinator.life.drain("a test")
        draining = coordinator.serving_reasons()
    assert without_agent == without_sync == []
    assert draining == ["draining"]


def test_a_coordinator_that_never_reached_sync_is_not_ready() -> None:
    me = fleet.carrier(MemoryNetwork(), Kind.COORDINATOR, "c1")
    coordinator = CoordinatorService(CoordinatorSettings(id="c1", sync="sync:1"), me)
    assert coordinator.serving_reasons() == [
        "not listening yet", "sync at sync:1 has not been reached yet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("coordinator/c1", r"has left the fleet|was the only coordinator, and no longer answers"),
        ("sync/s1", r"no other sync can report when this one has left"),
    ],
)
async def test_the_wait_for_the_only_one_of_its_kind_ends(
    name: str, end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with fleet.running(agents=("a1",)) as running:
        client = a_client(running, Kind.OPERATOR, "me")
        monkeypatch.setattr(fleet_queries, "_client", lambda context, identity: client)
        await fleet_queries._drain(CONTEXT, name, None, wait=True, timeout_s=20.0)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith(name)]
    assert re.search(end, shown[-1])


@pytest.mark.parametrize(("kind", "name"), [(Kind.OPERATOR, "me"), (Kind.CLIENT, "ops")])
async def test_an_agent_that_is_asked_to_drain_leaves(
    kind: Kind, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = allowlist.parse(LISTED)
    async with fleet.running(agents=("a1", "a2"), allowlist=lambda: listed) as running:
        async with a_client(running) as writer:
            await writer.append([fleet.a_column(600)])
        await running.settled(agents=2)
        client = a_client(running, kind, name)
        monkeypatch.setattr(fleet_queries, "_client", lambda context, identity: client)
        await fleet_queries._drain(CONTEXT, "agent/a1", None, wait=True, timeout_s=20.0)
        assert running.tasks["a1"] in (await asyncio.wait([running.tasks["a1"]], timeout=5.0))[0]
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if line.startswith("agent/a1")]
    assert shown[0] == "agent/a1 is asked to drain"
    assert shown[-1] == "agent/a1 has left the fleet"


async def test_a_client_without_the_grant_is_refused_and_nobody_drains() -> None:
    listed = allowlist.parse(LISTED)
    async with (
        fleet.running(agents=("a1",), allowlist=lambda: listed) as running,
        a_client(running) as client,
    ):
        with pytest.raises(NotGranted, match="the line `client/u1  drain` into the allowlist"):
            await client.drain("agent/a1")
        await asyncio.sleep(running.lease_s)
        assert (await told_of(client))["agent/a1"].evidence["stage"] == "serving"


async def test_a_name_that_nobody_has_is_answered_with_the_nearest() -> None:
    async with (
        fleet.running(agents=("a1",)) as running,
        a_client(running, Kind.OPERATOR, "me") as operator,
    ):
        with pytest.raises(BadInput, match=r"'agent/a7' holds no lease: did you mean agent/a1\?"):
            await operator.drain("agent/a7")
