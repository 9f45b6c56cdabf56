"""Two coordinators behind one UDP port, or behind one name: one drains, and no request fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from midstreamer.client.api import AsyncClient
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.domain.identity import Kind
from midstreamer.store.memory import MemoryStore
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from midstreamer.transport import hosts
from midstreamer.transport.carrier import Limits
from tests.support.fleet import eventually
from tests.support.identity_builders import Installation, who
from tests.support.relay import relayed

pytestmark = pytest.mark.integration
PER_S = 50
SLOWEST_S = 1.0
NAME = "pods.test"


@dataclass
class _Two:
    """Two coordinators that clients reach only at their outside addresses."""

    place: Installation
    services: dict[str, CoordinatorService] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def client(self, address: str) -> AsyncClient:
        return AsyncClient(self.place.carrier(who(Kind.CLIENT, "u1")), [address])

    def outside(self) -> list[str]:
        return [_entered(service) for service in self.services.values()]

    async def start(self, name: str, sync: str, outside: str) -> None:
        config = CoordinatorSettings(
            id=name, listen="127.0.0.1:0", outside_listen=outside, sync=sync, drain_s=10.0
        )
        service = CoordinatorService(config, self.place.carrier(who(Kind.COORDINATOR, name)))
        self.services[name] = service
        self.tasks[name] = asyncio.create_task(service.run())
        await eventually(lambda: service.position >= 0 and bool(_entered(service)))

    def serving(self) -> str:
        """Return the name of the coordinator that serves the client."""
        (name,) = [
            name
            for name, service in self.services.items()
            if any(
                peer.identity.kind is Kind.CLIENT and not peer.draining
                for peer in (service._server.peers if service._server else ())
            )
        ]
        return name


def _entered(service: CoordinatorService) -> str:
    return service._server.outside_address if service._server else ""


@asynccontextmanager
async def _two(tmp_path: Path, *hosts: str) -> AsyncIterator[_Two]:
    """Start two coordinators, one on each of the two hosts.

    If the hosts differ, both listen on the same port number.
    """
    place = Installation(tmp_path, Limits())
    sync = SyncService(
        SyncSettings(listen="127.0.0.1:0", shard_points=256),
        place.carrier(who(Kind.SYNC)),
        MemoryStore(),
    )
    syncing = asyncio.create_task(sync.run())
    two = _Two(place)
    try:
        await eventually(lambda: bool(sync.address))
        port = "0"
        for name, host in zip(("c1", "c2"), hosts, strict=True):
            await two.start(name, sync.address, f"{host}:{port}")
            if hosts[0] != hosts[1]:
                port = _entered(two.services[name]).rpartition(":")[2]
        yield two
    finally:
        for task in (*two.tasks.values(), syncing):
            task.cancel()
            await asyncio.wait({task})


@dataclass
class _Load:
    """Sends requests at a fixed rate, even if earlier requests are still open."""

    client: AsyncClient
    took_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def run(self, for_s: float) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(round(for_s * PER_S)):
                await asyncio.sleep(began_s + number / PER_S - loop.time())
                group.create_task(self._ask())

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await self.client.survey()
        except Exception as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        self.took_s.append(loop.time() - began_s)


async def _drained_under_load(two: _Two, address: str) -> None:
    """Drain the coordinator that serves a client, while the client sends requests."""
    async with two.client(address) as client:
        await client.survey()
        load = _Load(client)
        running = asyncio.create_task(load.run(4.0))
        await eventually(lambda: len(load.took_s) >= PER_S)
        drains = two.serving()
        two.services[drains].life.drain("a test")
        async with asyncio.timeout(10):
            await two.tasks[drains]
        await running
        assert two.serving() != drains
    assert load.failed == []
    assert len(load.took_s) == 4 * PER_S
    assert max(load.took_s) < SLOWEST_S


@pytest.mark.parametrize("seed", range(3))
async def test_one_of_two_behind_a_shared_port_drains_and_no_request_fails(
    tmp_path: Path, seed: int
) -> None:
    async with (
        _two(tmp_path, "127.0.0.1", "127.0.0.1") as two,
        relayed(two.outside(), seed=seed) as relay,
    ):
        await _drained_under_load(two, relay.address)
        assert len(set(relay.sources)) == len(relay.led) >= 2


async def test_each_dial_of_a_shared_port_goes_out_from_a_new_source_port(tmp_path: Path) -> None:
    async with (
        _two(tmp_path, "127.0.0.1", "127.0.0.1") as two,
        relayed(two.outside(), seed=1) as relay,
    ):
        carrier = two.place.carrier(who(Kind.CLIENT, "u1"))
        met = set()
        links = [await carrier.dial(relay.address, expect=Kind.COORDINATOR) for _ in range(8)]
        for link in links:
            met.add(link.peer.id)
            await link.close()
        assert len(set(relay.sources)) == 8
        assert met == {"c1", "c2"}


async def test_one_of_two_behind_a_name_drains_and_no_request_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = hosts.resolve

    async def resolved(address: str, kind: socket.SocketKind) -> list[hosts.Found]:
        name, _, port = address.rpartition(":")
        if name != NAME:
            return await resolve(address, kind)
        return [(socket.AF_INET, (host, int(port))) for host in ("127.0.0.2", "127.0.0.3")]

    monkeypatch.setattr(hosts, "resolve", resolved)
    async with _two(tmp_path, "127.0.0.2", "127.0.0.3") as two:
        port = two.outside()[0].rpartition(":")[2]
        await _drained_under_load(two, f"{NAME}:{port}")
