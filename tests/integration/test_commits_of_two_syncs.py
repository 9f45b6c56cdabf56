"""Several syncs on one PostgreSQL: the followers of each quickly get the commits of the others."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Changes, Points, Tail, Write
from midstreamer.runtime.peer import Peer
from midstreamer.store import commit_notifications
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.postgres import PostgresStore
from tests.support import recomputed_states
from tests.support import store_builders as build
from tests.support.fleet import eventually
from tests.support.store_builders import Fleet

pytestmark = pytest.mark.integration

WRITES = 60
LEAST_S = 0.15
"""Maximum median delay, in seconds, until a follower at one sync gets a commit of another sync.

A sync also polls PostgreSQL, every 0.25 s. The test writes as soon as it has received the commit
before. Without notifications, it would receive each commit at a poll and write the next commit just
after that poll. Most delays would then be almost 0.25 s. So a median below this limit shows that
notifications work.
"""


@pytest.fixture(scope="module")
def server() -> EmbeddedServer:
    return build.the_server()


@pytest.fixture
async def dsn(server: EmbeddedServer) -> str:
    return await build.a_database(await server.start())


@asynccontextmanager
async def syncs(dsn: str, count: int = 2) -> AsyncIterator[list[Fleet]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                build.a_sync(PostgresStore(dsn, connect_s=1.0), name=f"sync-{at}", lease_s=3.0)
            )
            for at in range(count)
        ]


async def insist(peer: Peer, write: Write) -> frames.Written:
    async with asyncio.timeout(30):
        while True:
            try:
                return cast(frames.Written, await peer.ask(write, budget_s=5))
            except MidstreamerError as error:
                if not error.retry_after_s:
                    raise
                await asyncio.sleep(min(error.retry_after_s, 0.05))


class Reader:
    """Follows the change feed of a sync and records what arrives.

    `starts` has a list for each series: the position of the first point of each column that came.
    `heard_s` has the time at which each position of the feed came.
    """

    def __init__(self, peer: Peer) -> None:
        self.position = 0
        self.starts: dict[str, list[int]] = {}
        self.heard_s: dict[int, float] = {}
        self._peer = peer

    async def run(self) -> None:
        async for page in self._peer.follow(Tail(after=0, states=False)):
            self.take(page)

    def take(self, page: Changes) -> None:
        for change in page.changes:
            if isinstance(change, Points):
                self.starts.setdefault(change.column.series, []).append(change.start)
        for position in range(self.position + 1, page.position + 1):
            self.heard_s[position] = asyncio.get_running_loop().time()
        self.position = page.position

    async def reached(self, position: int) -> None:
        async with asyncio.timeout(20):
            while self.position < position:  # noqa: ASYNC110 - it signals no event
                await asyncio.sleep(0.001)


async def a_reader(fleet: Fleet, group: AsyncExitStack, name: str = "a1") -> Reader:
    reader = Reader(await fleet.dial(Kind.AGENT, name))
    task = asyncio.create_task(reader.run())
    group.callback(task.cancel)
    return reader


async def write_all(fleet: Fleet, name: str, *, count: int = WRITES) -> None:
    peer = await fleet.dial(Kind.COORDINATOR, name)
    for at in range(count):
        await insist(peer, build.a_write(build.a_column(at, at + 1, name=f"test/{name}")))


async def test_a_commit_of_another_sync_is_told_at_once(dsn: str) -> None:
    async with syncs(dsn) as (first, second), AsyncExitStack() as stack:
        reader, writer = await a_reader(second, stack), await first.dial()
        taken = []
        for at in range(20):
            written = await insist(writer, build.a_write(build.a_column(at, at + 1)))
            answered_s = asyncio.get_running_loop().time()
            await reader.reached(written.position)
            taken.append(reader.heard_s[written.position] - answered_s)
    assert statistics.median(taken) < LEAST_S, taken


async def test_two_writing_syncs_tell_every_row_once_to_all_followers(dsn: str) -> None:
    async with syncs(dsn) as fleets, AsyncExitStack() as stack:
        readers = [await a_reader(fleet, stack) for fleet in fleets]
        await asyncio.gather(*(write_all(f, f"w{at}") for at, f in enumerate(fleets)))
        store = fleets[0].service._store
        position = await store.position()
        await asyncio.gather(*(reader.reached(position) for reader in readers))
    expected = {"test/w0": list(range(WRITES)), "test/w1": list(range(WRITES))}
    assert [reader.starts for reader in readers] == [expected, expected]


async def test_a_lost_listening_connection_is_made_again_and_nothing_is_skipped(dsn: str) -> None:
    async with syncs(dsn) as fleets, AsyncExitStack() as stack:
        readers = [await a_reader(fleet, stack) for fleet in fleets]
        admin = await asyncpg.connect(dsn)
        writing = asyncio.gather(*(write_all(f, f"w{at}") for at, f in enumerate(fleets)))
        while not writing.done():
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'midstreamer feed' AND datname = current_database()"
            )
            await asyncio.wait({writing}, timeout=0.1)
        await admin.close()
        await writing
        position = await fleets[0].service._store.position()
        await asyncio.gather(*(reader.reached(position) for reader in readers))
    expected = {"test/w0": list(range(WRITES)), "test/w1": list(range(WRITES))}
    assert [reader.starts for reader in readers] == [expected, expected]


@asynccontextmanager
async def deafened(dsn: str, folder: Path) -> AsyncIterator[str]:
    """Run a proxy in front of PostgreSQL, and yield the proxy's DSN.

    The proxy drops all notifications, as PgBouncer does in transaction mode.
    """
    parts = urlsplit(dsn)
    (host,) = parse_qs(parts.query)["host"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near, far = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
        both = [
            asyncio.ensure_future(_copy(reader, far)),
            asyncio.ensure_future(_sift(near, writer)),
        ]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for end in (far, writer):
            end.close()

    server = await asyncio.start_unix_server(serve, folder / ".s.PGSQL.5432")
    try:
        yield urlunsplit(parts._replace(query=urlencode({"host": str(folder)})))
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def _sift(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy all messages of the server except notifications."""
    while True:
        head = await reader.readexactly(5)
        body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
        if head[:1] != b"A":
            writer.write(head + body)


async def test_where_no_notification_arrives_polling_finds_commits_and_it_is_said(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_notifications, "PROBE_S", 0.1)
    monkeypatch.setattr(commit_notifications.Ear, "_warned", False)
    with tempfile.TemporaryDirectory() as folder:
        async with deafened(dsn, Path(folder)) as deaf, AsyncExitStack() as stack:
            one = await stack.enter_async_context(build.a_sync(PostgresStore(dsn), name="one"))
            with capture_logs() as logged:
                other = await stack.enter_async_context(
                    build.a_sync(PostgresStore(deaf), name="other")
                )
                reader, writer = await a_reader(other, stack), await one.dial()
                for at in range(3):
                    written = await insist(writer, build.a_write(build.a_column(at, at + 1)))
                    async with asyncio.timeout(1.0):
                        await reader.reached(written.position)
                await eventually(lambda: commit_notifications.Ear._warned)
    assert [one["event"] for one in logged].count("feed.not_notified") == 1


async def test_a_restarted_postgresql_lets_no_follower_skip_or_repeat_a_row(
    server: EmbeddedServer, dsn: str
) -> None:
    async with syncs(dsn) as fleets, AsyncExitStack() as stack:
        readers = [await a_reader(fleet, stack) for fleet in fleets]
        writing = asyncio.gather(*(write_all(f, f"w{at}") for at, f in enumerate(fleets)))
        await readers[0].reached(WRITES // 2)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await server.wait()
        await server.start()
        await writing
        position = await fleets[0].service._store.position()
        await asyncio.gather(*(reader.reached(position) for reader in readers))
    expected = {"test/w0": list(range(WRITES)), "test/w1": list(range(WRITES))}
    assert [reader.starts for reader in readers] == [expected, expected]


async def test_two_syncs_that_write_one_stream_by_turns_learn_what_one_does(dsn: str) -> None:
    story = [build.a_write(build.a_column(0, 4))] + [
        build.a_write(build.a_column(at, at + 1), decisions=[build.a_decision(at)], sequence=at)
        for at in range(4, 60)
    ]
    async with syncs(dsn) as fleets:
        peers = [await fleet.dial() for fleet in fleets]
        for at, write in enumerate(story):
            await insist(peers[at // 3 % 2], write)
        store = fleets[0].service._store
        assert await recomputed_states.check(store) == []
        by_turns = await build.contents(store)
    assert by_turns == await _by_one(story)


async def _by_one(story: list[Write]) -> object:
    async with build.a_store() as store, build.a_sync(store) as fleet:
        peer = await fleet.dial()
        for write in story:
            await insist(peer, write)
        return await build.contents(store)
