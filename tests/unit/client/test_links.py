"""A client keeps links to a few coordinators, which it learns of from the fleet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from midstreamer.client import links
from midstreamer.client.api import AsyncClient
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime.peer import Listener, Peer, listen
from midstreamer.transport.memory import MemoryNetwork
from tests.support.client_builders import QUICK, a_carrier
from tests.support.fleet import eventually


class _Fleet:
    """Coordinators that list each other, and count the surveys that they answer."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.listeners: dict[str, Listener] = {}
        self.answered: dict[str, int] = {}
        self.told: tuple[frames.Place, ...] = ()

    async def start(self, name: str, *, address: str = "") -> None:
        async def handle(_peer: Peer, frame: frames.Frame) -> frames.Answer:
            if isinstance(frame, frames.Lookup):
                return frames.Experiences(coordinators=self.told)
            self.answered[name] = self.answered.get(name, 0) + 1
            return frames.Surveyed()

        me = a_carrier(self.network, Kind.COORDINATOR, name)
        self.listeners[name] = await listen(me, address or f"{name}:1", handle=handle)

    def tell(self, **places: str) -> None:
        listed = [frames.Place(f"coordinator/{name}", at) for name, at in places.items()]
        self.told = tuple(listed)


@asynccontextmanager
async def _a_client(fleet: _Fleet, *addresses: str) -> AsyncIterator[AsyncClient]:
    client = AsyncClient(a_carrier(fleet.network), addresses, deadline_s=5.0, policy=QUICK)
    async with client:
        yield client
    for listener in fleet.listeners.values():
        await listener.close()


async def test_a_client_goes_on_through_a_coordinator_that_it_learned_of() -> None:
    fleet = _Fleet()
    await fleet.start("c1")
    await fleet.start("c2")
    fleet.tell(c1="c1:1", c2="c2:1")
    async with _a_client(fleet, "c1:1") as client:
        await client.survey()
        await eventually(lambda: "c2:1" in client._links.ready())
        await fleet.listeners["c1"].close()
        await client.survey()
    assert fleet.answered == {"c1": 1, "c2": 1}


async def test_a_coordinator_with_another_name_than_listed_gets_no_request() -> None:
    fleet = _Fleet()
    await fleet.start("c1")
    await fleet.start("c3", address="c2:1")
    fleet.tell(c2="c2:1")
    async with _a_client(fleet, "c1:1") as client:
        await client.survey()
        await eventually(lambda: bool(fleet.listeners["c3"].peers))
        assert client._links.ready() == ["c1:1"]


async def test_a_coordinator_that_takes_over_an_address_is_asked_there() -> None:
    fleet = _Fleet()
    await fleet.start("c1")
    await fleet.start("c2", address="pod:1")
    fleet.tell(c1="c1:1", c2="pod:1")
    async with _a_client(fleet, "c1:1") as client:
        await eventually(lambda: "pod:1" in client._links.ready())
        await fleet.listeners["c2"].close()
        await fleet.start("c3", address="pod:1")
        await eventually(lambda: bool(fleet.listeners["c3"].peers))
        fleet.tell(c1="c1:1", c3="pod:1")
        # The client learns the new list of coordinators from its next link to c1.
        await fleet.listeners["c1"].close()
        await fleet.start("c1")
        await eventually(lambda: "pod:1" in client._links.ready())
        assert client._links._kept["pod:1"].expected == "coordinator/c3"


async def test_an_address_of_any_length_is_not_dialled() -> None:
    fleet = _Fleet()
    await fleet.start("c1")
    await fleet.start("c2")
    fleet.tell(c2="c2:1", c3="x" * (links.ADDRESS_CHARACTERS_MAX + 1))
    async with _a_client(fleet, "c1:1") as client:
        await eventually(lambda: "c2:1" in client._links.ready())
        assert sorted(client._links._kept) == ["c1:1", "c2:1"]


async def test_only_a_few_coordinators_are_dialled_however_many_are_listed() -> None:
    fleet = _Fleet()
    for number in range(9):
        await fleet.start(f"c{number}")
    fleet.tell(**{f"c{number}": f"c{number}:1" for number in range(9)})
    async with _a_client(fleet, "c0:1") as client:
        await eventually(lambda: len(client._links.ready()) == 1 + links.LINKS_MAX)
        assert sum(bool(each.peers) for each in fleet.listeners.values()) == 1 + links.LINKS_MAX


async def test_a_coordinator_that_drains_is_left_for_the_other() -> None:
    fleet = _Fleet()
    await fleet.start("c1")
    await fleet.start("c2")
    async with _a_client(fleet, "c1:1", "c2:1") as client:
        await eventually(lambda: len(client._links.ready()) == 2)
        await client.survey()
        (first,) = fleet.answered
        fleet.listeners[first].refuse_new()
        for peer in fleet.listeners[first].peers:
            peer.drain(leaving=True)
        await eventually(lambda: len(client._links.ready()) == 1)
        for _ in range(5):
            await client.survey()
        assert fleet.answered[first] == 1
