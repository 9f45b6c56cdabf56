"""The fleet tells clients outside its network only addresses that they can reach from there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import ValidationError

from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime.peer import Peer, dial
from tests.support.fleet import SYNC_ADDRESS, Fleet, carrier, eventually, running

pytestmark = pytest.mark.integration


async def _start(fleet: Fleet, name: str, *, advertise: str | None) -> None:
    config = CoordinatorSettings(
        id=name,
        listen=f"{name}:1",
        advertise=f"{name}:1",
        outside_listen=f"{name}.outside:1",
        outside_advertise=advertise,
        sync=SYNC_ADDRESS,
    )
    me = carrier(fleet.network, Kind.COORDINATOR, name)
    await fleet._start(name, CoordinatorService(config, me))
    await eventually(lambda: not fleet.coordinator(name).complete_reasons())


@asynccontextmanager
async def _client(fleet: Fleet, address: str) -> AsyncIterator[Peer]:
    peer = await dial(carrier(fleet.network, Kind.CLIENT, "u1"), address, expect=Kind.COORDINATOR)
    yield peer
    await peer.close()


async def _told(fleet: Fleet, address: str) -> set[str]:
    async with _client(fleet, address) as peer:
        answer = await peer.ask(frames.Lookup(experience_ids=()), budget_s=5)
        assert isinstance(answer, frames.Experiences)
        return {place.address for place in answer.coordinators}


async def test_each_side_is_told_the_addresses_that_lead_there_from_it() -> None:
    async with running(agents=("a1",)) as fleet:
        await _start(fleet, "c2", advertise="quic+wss://lb-2.test:7400")
        await _start(fleet, "c3", advertise="lb-3.test:7400")
        inside = {"c1:1", "c2:1", "c3:1"}
        both = [fleet.coordinator(name)._catalogue for name in ("c2", "c3")]
        await eventually(lambda: all(len(each.coordinators()) == 3 for each in both))
        assert await _told(fleet, "c2:1") == inside
        outside = {"quic+wss://lb-2.test:7400", "lb-3.test:7400"}
        assert await _told(fleet, "c2.outside:1") == outside
        assert await _told(fleet, "c3.outside:1") == outside


async def test_who_shares_one_address_from_outside_is_told_no_other() -> None:
    async with running(agents=("a1",)) as fleet:
        await _start(fleet, "c2", advertise=None)
        assert await _told(fleet, "c2.outside:1") == set()


async def test_a_coordinator_that_drains_sends_those_outside_away_too() -> None:
    async with running(agents=("a1",)) as fleet:
        await _start(fleet, "c2", advertise=None)
        async with _client(fleet, "c2.outside:1") as peer, _client(fleet, "c2:1") as other:
            await fleet.drain("c2")
            assert peer.leaving
            assert other.leaving


def test_an_outside_address_without_a_listener_is_an_error() -> None:
    with pytest.raises(ValidationError, match="outside_listen is not set: set both, or neither"):
        CoordinatorSettings(outside_advertise="lb.test:7400")
