"""Services that listen on `[::]` are reached by IPv6 and by IPv4, on each carrier."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime.peer import dial
from midstreamer.store.memory import MemoryStore
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from tests.support.fleet import eventually
from tests.support.identity_builders import Installation, who


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.integration,
    pytest.mark.each_carrier,
    pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6"),
]


async def _reached(place: Installation, port: str, *, by: Kind, expect: Kind) -> None:
    for host in ("127.0.0.1", "[::1]"):
        peer = await dial(place.carrier(who(by, "x1")), f"{host}:{port}", expect=expect)
        assert isinstance(await peer.ask(frames.Survey(), budget_s=5), frames.Surveyed)
        await peer.close()


async def test_sync_and_coordinator_on_every_interface_are_reached_by_ipv4_and_ipv6(
    tmp_path: Path,
) -> None:
    place = Installation(tmp_path)
    sync = SyncService(
        SyncSettings(listen="[::]:0", shard_points=256),
        place.carrier(who(Kind.SYNC)),
        MemoryStore(),
    )
    tasks = [asyncio.create_task(sync.run())]
    try:
        await eventually(lambda: bool(sync.address))
        host, _, port = sync.address.rpartition(":")
        assert host.endswith("[::]")
        await _reached(place, port, by=Kind.AGENT, expect=Kind.SYNC)
        coordinator = CoordinatorService(
            CoordinatorSettings(listen="[::]:0", sync=f"[::1]:{port}"),
            place.carrier(who(Kind.COORDINATOR)),
        )
        tasks.append(asyncio.create_task(coordinator.run()))
        await eventually(lambda: coordinator.position >= 0)
        port = coordinator.address.rpartition(":")[2]
        await _reached(place, port, by=Kind.CLIENT, expect=Kind.COORDINATOR)
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.wait({task})
