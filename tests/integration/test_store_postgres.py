"""PostgreSQL as the store: migrations on filled tables, a full disk, a killed server."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import asyncpg
import msgspec
import pytest

from midstreamer.domain.errors import BadInput, StoreError
from midstreamer.protocol.frames import Points, Skipped, Written
from midstreamer.store import migrate
from midstreamer.store.migrate import Migration
from midstreamer.store.postgres import PostgresStore
from midstreamer.store.store_interface import Effects, Usage
from midstreamer.sync.quota import Quotas
from midstreamer.telemetry import metrics
from tests.support import store_builders as build
from tests.support.metric_values import shown

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> str:
    return build.the_server().dsn


async def test_a_migration_keeps_what_a_filled_table_holds(server: str) -> None:
    dsn = await build.a_database(server)
    store = PostgresStore(dsn)
    await store.open()
    write = build.a_write(build.a_column(0, 8), decisions=[build.a_decision(5)])
    await build.commit(build.a_committer(store), write)
    before = await build.contents(store)
    known = migrate.shipped()
    text = "ALTER TABLE series ADD COLUMN unit text NOT NULL DEFAULT ''"
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        ran = await migrate.migrate(connection, [*known, Migration(len(known) + 1, "unit", text)])
    await connection.close()
    assert [migration.name for migration in ran] == ["unit"]
    assert await build.contents(store) == before
    await store.close()


async def test_an_old_process_goes_on_beside_a_newer_schema_that_is_compatible(server: str) -> None:
    dsn = await build.a_database(server)
    known = migrate.shipped()
    newest = known[-1].number
    text = f"-- compatible: {newest:04d}\nALTER TABLE series ADD COLUMN unit text DEFAULT ''"
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await migrate.migrate(connection, [*known, Migration(newest + 1, "unit", text)])
    await connection.close()
    store = PostgresStore(dsn)
    await store.open()
    write = build.a_write(build.a_column(0, 8), decisions=[build.a_decision(5)])
    await build.commit(build.a_committer(store), write)
    assert (await store.status()).schema == newest + 1
    await store.close()


async def test_a_change_of_a_newer_kind_is_skipped_in_its_place(server: str) -> None:
    dsn = await build.a_database(server)
    store = PostgresStore(dsn)
    await store.open()
    for at in (0, 8, 16):
        column = build.a_column(at, at + 8)
        async with store.transaction() as writing:
            await writing.apply(Effects(points=[(at, column)], changes=[Points(at, column)]))
    connection = await asyncpg.connect(dsn)
    newer = msgspec.msgpack.encode({"type": "Split", "series": "a", "at": 7})
    await connection.execute("UPDATE feed SET body = $1 WHERE position = 2", newer)
    await connection.close()
    page = await store.feed(0, 100)
    assert (page.position, page.changes[1]) == (3, Skipped("Split"))
    assert [type(change) for change in page.changes] == [Points, Skipped, Points]
    await store.close()


async def test_two_that_start_at_once_migrate_once(server: str) -> None:
    dsn = await build.a_database(server)
    stores = [PostgresStore(dsn) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))
    assert (await stores[0].status()).schema == migrate.shipped()[-1].number
    for store in stores:
        await store.close()


async def test_a_migration_that_fails_leaves_nothing(server: str) -> None:
    connection = await asyncpg.connect(await build.a_database(server))
    broken = [Migration(1, "broken", "CREATE TABLE half (); SELECT nonsense")]
    with pytest.raises(asyncpg.PostgresError):
        async with connection.transaction():
            await migrate.migrate(connection, broken)
    tables = "SELECT count(*) FROM pg_class WHERE relname IN ('half', 'migrations')"
    assert await connection.fetchval(tables) == 0
    await connection.close()


async def test_a_full_disk_is_named_and_nothing_is_half_written(server: str) -> None:
    dsn = await build.a_database(server)
    store = PostgresStore(dsn)
    await store.open()
    connection = await asyncpg.connect(dsn)
    await connection.execute("""
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON feed EXECUTE FUNCTION full_disk()""")
    committer = build.a_committer(store)
    with pytest.raises(StoreError, match=r"its disk is full .*free space") as caught:
        await build.commit(committer, build.a_write(build.a_column(0, 8)))
    assert caught.value.retry_after_s > 0
    assert (await store.totals()).ticks == 0
    await connection.execute("DROP TRIGGER full_disk ON feed")
    assert (await build.commit(committer, build.a_write(build.a_column(0, 8)))).stored == 8
    await connection.close()
    await store.close()


async def test_an_absent_database_is_named(server: str) -> None:
    store = PostgresStore(server.replace("/midstreamer?", "/nowhere?"))
    with pytest.raises(StoreError, match=r"no such database .*sync\.dsn"):
        await store.open()


async def test_an_absent_server_is_named(tmp_path: Path) -> None:
    store = PostgresStore(f"postgresql://midstreamer@/midstreamer?host={tmp_path}")
    with pytest.raises(StoreError, match=r"start PostgreSQL, or correct sync\.dsn"):
        await store.open()


async def test_a_store_that_is_not_open_says_so(server: str) -> None:
    with pytest.raises(StoreError, match="not open yet"):
        await PostgresStore(server).position()


async def test_a_damaged_promise_is_found(server: str) -> None:
    dsn = await build.a_database(server)
    store = PostgresStore(dsn)
    await store.open()
    write = build.a_write(build.a_column(0, 9), decisions=[build.a_decision(5)])
    await build.commit(build.a_committer(store), write)
    assert await store.faults() == []
    connection = await asyncpg.connect(dsn)
    await connection.execute("DELETE FROM points WHERE index = 3")
    await connection.execute("DELETE FROM events WHERE kind = 'V'; DELETE FROM verdicts")
    faults = "\n".join(await store.faults())
    assert "series test/A: 8 points at positions 0 to 8, and its row says 9" in faults
    assert "due at position 7, which is stored, and has no verdict" in faults
    assert "state has version 2, and 1 events" in faults
    assert "head counts 1 decisions and 1 verdicts; there are 1 and 0" in faults
    await connection.close()
    await store.close()


async def test_an_older_database_is_counted_and_its_series_are_nobodys(server: str) -> None:
    dsn = await build.a_database(server)
    connection = await asyncpg.connect(dsn)
    first, *rest = migrate.shipped()
    await migrate.migrate(connection, [first])
    await connection.execute("""
        INSERT INTO series (name, count, first_time, last_time, last_value)
        SELECT 'test/' || n, 0, 0, 0, 0 FROM generate_series(1, 3) AS n;
        INSERT INTO states (stream, specification, version, body) VALUES ('test@1', '{}', 0, '')""")
    await migrate.migrate(connection, [first, *rest])
    await connection.close()
    store = PostgresStore(dsn)
    await store.open()
    async with store.transaction() as writing:
        assert await writing.usage(["", "client/u1"]) == (Usage(3, 1), {"": Usage(3, 1)})
    assert not [fault for fault in await store.faults() if "counts" in fault or "counted" in fault]
    await store.close()


async def test_counts_of_series_and_streams_that_are_wrong_are_found(server: str) -> None:
    dsn = await build.a_database(server)
    store = PostgresStore(dsn)
    await store.open()
    write = build.a_write(build.a_column(0, 9), decisions=[build.a_decision(5)])
    await build.commit(build.a_committer(store), write)
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE head SET series = 7; UPDATE identities SET streams = 0")
    await connection.execute("UPDATE series SET identity = 'client/u1'")
    assert await store.faults() == [
        "head counts 7 series and 1 streams; there are 1 and 1",
        "identity 'c1': 1 series and 0 streams are counted; it made 0 and 1",
        "identity 'client/u1': 0 series and 0 streams are counted; it made 1 and 0",
    ]
    guide = (Path(__file__).parents[2] / "docs/how-to/database.md").read_text(encoding="utf-8")
    await connection.execute(re.findall(r"^```sql\n(BEGIN.*?)^```", guide, re.M | re.S)[0])
    assert await store.faults() == []
    await connection.close()
    await store.close()


async def test_several_writers_at_once_never_exceed_a_quota(server: str) -> None:
    dsn = await build.a_database(server)
    stores = [PostgresStore(dsn) for _ in range(3)]
    for store in stores:
        await store.open()

    async def fill(store: PostgresStore, first: int) -> int:
        committer = build.a_committer(store, Quotas(series_max=10, series_per_identity_max=10))
        writes = [build.a_write(build.a_column(0, 2, name=f"test/{first + n}")) for n in range(8)]
        found = [(await committer.commit([build.given(write)])).outcomes[0] for write in writes]
        return sum(isinstance(outcome, Written) for outcome in found)

    taken = await asyncio.gather(*(fill(store, 8 * n) for n, store in enumerate(stores)))
    assert sum(taken) == len((await stores[0].catalogue("", 100)).series) == 10
    assert await stores[0].faults() == []
    for store in stores:
        await store.close()


async def test_a_killed_server_keeps_all_that_was_answered(server: str) -> None:
    postmaster = build.the_server()
    store = PostgresStore(await build.a_database(server), connect_s=1.0)
    await store.open()
    answered = 0

    async def write() -> None:
        nonlocal answered
        for at in range(100_000):
            async with store.transaction() as writing:
                await writing.apply(Effects(points=[(at, build.a_column(at, at + 1))]))
            answered = at + 1
            if answered == 50 and postmaster.pid is not None:
                os.kill(postmaster.pid, signal.SIGKILL)

    # Either a write is in progress at the kill, and its connection is lost; or the next write needs
    # a new connection, and nothing listens.
    try:
        with pytest.raises(StoreError, match="connection was lost|nothing listens"):
            await write()
    finally:  # later tests use the same PostgreSQL server
        await postmaster.wait()
        await postmaster.start()
    (only,) = (await store.catalogue("", 10)).series
    assert answered <= only.count <= answered + 1
    assert await store.faults() == []
    await store.close()


async def test_a_value_that_postgresql_cannot_take_is_the_fault_of_who_sent_it(server: str) -> None:
    store = PostgresStore(await build.a_database(server))
    await store.open()
    with pytest.raises(BadInput, match="cannot take a value"):
        await store.state("a\0b")
    decision = build.renamed(build.a_decision(5), series="", index=-1, time=2**63)
    with pytest.raises(BadInput, match="int64"):
        await build.commit(build.a_committer(store), build.a_write(decisions=[decision]))
    await store.close()


def pool(state: str) -> float:
    return shown(metrics.POOL_CONNECTIONS, state=state)


def waits() -> float:
    return shown(metrics.POOL_WAIT_S, "_count")


async def test_the_pool_tells_how_busy_it_is_and_what_was_waited_for(server: str) -> None:
    store = PostgresStore(await build.a_database(server), connections=2)
    await store.open()
    assert shown(metrics.POOL_CAPACITY) == 2
    assert (pool("busy"), pool("idle")) == (0, 1)
    count, waited_s = waits(), shown(metrics.POOL_WAIT_S, "_sum")
    async with store._connection(), store._connection():
        assert (pool("busy"), pool("idle")) == (2, 0)
        third = asyncio.create_task(store.position())
        await asyncio.sleep(0.05)
        assert waits() == count + 2
    await third
    assert waits() == count + 3
    assert shown(metrics.POOL_WAIT_S, "_sum") - waited_s >= 0.05
    assert pool("busy") == 0
    await store.close()
    assert (pool("busy"), pool("idle")) == (0, 0)


async def test_a_connection_that_is_not_had_in_time_counts_as_waited_for(server: str) -> None:
    store = PostgresStore(await build.a_database(server), connections=1, connect_s=0.2)
    await store.open()
    count = waits()
    async with store._connection():
        with pytest.raises(StoreError, match="did not answer in time"):
            await store.position()
    assert waits() == count + 2
    assert await store.position() == 0
    await store.close()
