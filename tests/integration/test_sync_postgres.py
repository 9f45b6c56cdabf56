"""Sync survives a killed PostgreSQL server, and no acknowledged row is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import cast

import pytest

from midstreamer.domain.errors import MidstreamerError
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Write
from midstreamer.runtime.peer import Peer
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.memory import MemoryStore
from midstreamer.store.postgres import PostgresStore
from tests.support import recomputed_states
from tests.support import store_builders as build

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> EmbeddedServer:
    return build.the_server()


def _story() -> list[Write]:
    begin = [build.a_write(build.a_column(0, 4))]
    return begin + [
        build.a_write(build.a_column(at, at + 1), decisions=[build.a_decision(at)], sequence=at)
        for at in range(4, 60)
    ]


async def _insist(peer: Peer, write: Write) -> frames.Written:
    async with asyncio.timeout(30):
        while True:
            try:
                return cast(frames.Written, await peer.ask(write, budget_s=5))
            except MidstreamerError as error:
                if not error.retry_after_s:
                    raise
                await asyncio.sleep(min(error.retry_after_s, 0.05))


async def _without_trouble() -> object:
    store = MemoryStore()
    async with build.a_sync(store) as fleet:
        peer = await fleet.dial()
        for write in _story():
            await _insist(peer, write)
    return await build.contents(store)


@pytest.fixture
async def dsn(server: EmbeddedServer) -> str:
    return await build.a_database(await server.start())


async def test_a_killed_postgresql_loses_and_doubles_nothing(
    server: EmbeddedServer, dsn: str
) -> None:
    store = PostgresStore(dsn, connect_s=1.0)
    async with build.a_sync(store, lease_s=0.3) as fleet:
        peer, restarts = await fleet.dial(), []
        for at, write in enumerate(_story()):
            if at in (15, 40) and server.pid is not None:
                os.kill(server.pid, signal.SIGKILL)
                await server.wait()
                restarts.append(asyncio.create_task(server.start()))
            await _insist(peer, write)
        await asyncio.gather(*restarts)
        assert await recomputed_states.check(store) == []
        assert await build.contents(store) == await _without_trouble()


async def test_a_new_sync_goes_on_where_the_last_one_stopped(dsn: str) -> None:
    store, story = PostgresStore(dsn), _story()
    for part in (story[:20], story[18:]):  # the two parts overlap, so two writes are sent twice
        async with build.a_sync(store) as fleet:
            peer = await fleet.dial()
            for write in part:
                await _insist(peer, write)
    await store.open()
    assert await build.contents(store) == await _without_trouble()
    await store.close()


async def test_a_sync_that_starts_before_postgresql_waits_for_it(
    server: EmbeddedServer, dsn: str
) -> None:
    await server.stop()
    async with build.a_sync(PostgresStore(dsn, connect_s=1.0), wait=False) as fleet:
        peer = await fleet.dial()
        with pytest.raises(MidstreamerError):
            await peer.ask(_story()[0])
        assert fleet.service.complete_reasons() != []
        await server.start()
        assert (await _insist(peer, _story()[0])).stored == 4
        assert fleet.service.complete_reasons() == []
