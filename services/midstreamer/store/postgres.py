"""The store on PostgreSQL, 14 or newer.

A pool of connections that are made again by themselves; one transaction at a time writes (see
`store.ports` and `store.transaction`), reads run beside it on connections of their own.  Every
error leaves here as a StoreError that says what to do.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import Behind, StoreError, UnknownSeries, shortened
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Change, Joined, Learned, Member
from midstreamer.store import copying, dsn, listening, migrate, queries, reading, rows
from midstreamer.store.driver import Connection, Way, door
from midstreamer.store.listening import Ear
from midstreamer.store.ports import (
    CataloguePage,
    FeedPage,
    FleetView,
    Heard,
    LoadedRun,
    Present,
    Run,
    Status,
    StoredState,
    Totals,
    Transaction,
    alone,
    fitting,
)
from midstreamer.store.reading import PostgresReader
from midstreamer.store.transaction import PostgresTransaction
from midstreamer.telemetry import metrics, queues

SERVER_MIN = 14

_SQL = queries.load()
_CHECKS = reading.CHECKS


class PostgresStore:
    """Any PostgreSQL by DSN."""

    def __init__(
        self,
        source: str | dsn.Dsn,
        *,
        connections: int = 6,
        connect_s: float = 5.0,
        command_s: float = 60.0,
        trust: Callable[[], ssl.SSLContext] | None = None,
        password: Callable[[], str] | None = None,
    ) -> None:
        """``trust`` judges the database, and ``password`` is asked, for each new connection."""
        checked = dsn.checked(source, by_fleet=trust is not None)
        self._way = Way(checked, connect_s, command_s, trust, password)
        self._connections = connections
        self._connect_s = connect_s
        self._pool: Any = None
        self._writer_pid = 0
        """Of the PostgreSQL process that serves our transactions."""
        metrics.POOL_CAPACITY.set(connections)
        for state, count in (("busy", _busy), ("idle", _idle)):
            queues.shown(metrics.POOL_CONNECTIONS.labels(state), self, count)

    # --- connecting -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and migrate; after a failure it may be called again."""
        await self.close()
        async with door():
            pool = await self._way.pool(self._connections)
        try:
            async with door(), pool.acquire() as connection:
                self._check_server(connection)
                async with connection.transaction():
                    await migrate.migrate(connection)
        except BaseException:
            pool.terminate()
            raise
        self._pool = pool

    def _check_server(self, connection: Connection) -> None:
        version = connection.get_server_version()
        if version.major < SERVER_MIN:
            raise StoreError(
                f"PostgreSQL {version.major} is older than {SERVER_MIN}: name a newer one in"
                " sync.dsn"
            )

    async def close(self) -> None:
        """Let go of every connection."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with door():
            if self._pool is None:
                raise StoreError("the store is not open yet: wait", retry_after_s=0.5)
            pool, began_s = self._pool, time.perf_counter()
            try:
                connection = await pool.acquire(timeout=self._connect_s)
            finally:
                metrics.POOL_WAIT_S.observe(time.perf_counter() - began_s)
            try:
                yield connection
            finally:
                await pool.release(connection)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        """Several reads that are true at one moment."""
        async with (
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Alone among writers until the block ends."""
        async with self._connection() as connection, connection.transaction():
            self._writer_pid = connection.get_server_pid()
            position = await connection.fetchval(_SQL["lock_head"])
            yield PostgresTransaction(connection, position)

    # --- reading ----------------------------------------------------------------------------------

    async def position(self) -> int:
        """The last committed position of the feed."""
        async with self._connection() as connection:
            return int(await connection.fetchval(_SQL["position"]))

    async def totals(self) -> Totals:
        """How much is stored."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_SQL["totals"])
        return Totals(row["position"], row["ticks"], row["decisions"], row["verdicts"])

    async def catalogue(self, after: str, limit: int) -> CataloguePage:
        """A page of the series."""
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            found = await connection.fetch(_SQL["summaries_after"], after, limit + 1)
        series = tuple(rows.summary(row) for row in found[:limit])
        return CataloguePage(position, series, len(found) > limit)

    async def load(self, runs: Sequence[Run], limit: int) -> list[LoadedRun]:
        """At most ``limit`` points of some runs, in one COPY."""
        data: list[bytes] = []
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            names = list({run.series for run in runs})
            found = await connection.fetch(_SQL["series_counts"], names)
            ids = {row["name"]: row["id"] for row in found}
            counts = {row["name"]: row["count"] for row in found}
            missing = next((name for name in names if name not in ids), None)
            if missing is not None:
                raise UnknownSeries(f"series {shortened(missing)}: nothing is stored of it")
            told = fitting(runs, counts, limit)
            if any(run.stop > run.start for run in told):
                # COPY takes no parameters; these are integers.
                values = ",".join(
                    f"({place}, {ids[run.series]}, {run.start}::bigint, {run.stop}::bigint)"
                    for place, run in enumerate(told)
                )
                query = _SQL["points_copy"].replace("$1", values)
                await connection.copy_from_query(query, output=_gather(data), format="binary")
        points = copying.runs(b"".join(data), len(told))
        return [
            LoadedRun(position, run.start, *pair, counts[run.series])
            for run, pair in zip(told, points, strict=True)
        ]

    async def experiences(
        self, experience_ids: Sequence[bytes]
    ) -> tuple[list[Decision], list[Verdict]]:
        """What is stored of these."""
        async with self._reading() as connection:
            made = await connection.fetch(_SQL["decisions_by_id"], list(experience_ids))
            came = await connection.fetch(_SQL["verdicts_by_id"], list(experience_ids))
        return (
            [rows.read(row) for row in made],
            [rows.verdict(row["body"]) for row in came],
        )

    async def feed(self, after: int, limit: int, *, states: bool = True) -> FeedPage:
        """Changes after a position."""
        async with self._reading() as connection:
            found = await _changes(connection, after, limit)
            changes = alone([rows.change(row["body"]) for row in found])
            newest = await self._newest(connection, changes) if states else {}
        return FeedPage(_whole(changes, newest), found[-1]["position"] if found else after)

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        """Every change after a position.

        Not at one moment, which would take three more round trips: a state that is newer than its
        change is as good.
        """
        async with self._connection() as connection:
            found = await _changes(connection, after, limit)
            changes = [rows.change(row["body"]) for row in found]
            return _whole(changes, await self._newest(connection, changes))

    async def watch(self, heard: Heard, *, period_s: float) -> None:
        """Listen on a connection of its own, and look at the position as well."""
        async with door():
            connection = await self._way.connect("midstreamer feed", command_s=self._connect_s)
            try:
                ear = Ear(connection, heard, ours=lambda pid: pid == self._writer_pid)
                await ear.listen(period_s=period_s, ring=self._ring)
            finally:
                connection.terminate()

    async def _ring(self, word: str) -> None:
        """Notify from a connection of the pool."""
        async with self._connection() as connection:
            await connection.execute("SELECT pg_notify($1, $2)", listening.CHANNEL, word)

    async def _newest(
        self, connection: Connection, changes: Sequence[Change]
    ) -> dict[str, Learned]:
        streams = list({change.stream for change in changes if isinstance(change, Learned)})
        if not streams:
            return {}
        found = await connection.fetch(_SQL["states_of"], streams)
        return {row["stream"]: Learned(*row) for row in found}

    async def present(self) -> Present:
        """All members."""
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            members = await connection.fetch(_SQL["members_live"])
        return Present(position, tuple(rows.member(row) for row in members))

    async def state(self, stream: str) -> tuple[int, StoredState | None]:
        """The newest state of a stream."""
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            row = await connection.fetchrow(_SQL["state_of"], stream)
        return position, None if row is None else StoredState(*row)

    async def trim(self, keep: int) -> int:
        """Forget old changes and writers that are long gone."""
        async with self._connection() as connection:
            await connection.execute(_SQL["forget_writers"])
            return _count(await connection.execute(_SQL["trim_feed"], keep))

    # --- leases -----------------------------------------------------------------------------------

    async def renew(self, member: Member, lease_s: float) -> FleetView:
        """Take or renew a lease; the head is locked only when others must be told."""
        row = (
            *(member.name, member.incarnation, member.address, member.position),
            *(member.held, rows.json(member.evidence), member.whole_for, member.whole_at),
            lease_s,
        )
        async with self._connection() as connection:
            found = await connection.fetch(_SQL["renew_member"], *row)
            if found:
                fleet = (rows.member(one) for one in found)
                members = tuple(member if one.name == member.name else one for one in fleet)
                asked = _asked(found, member.name)
                return FleetView(found[0]["head"], members, changed=False, drain=asked)
            async with connection.transaction():
                position = await connection.fetchval(_SQL["lock_head"])
                await connection.execute(_SQL["put_member"], *row)
                return await self._told(connection, position, changed=True, name=member.name)

    async def retire(self, name: str) -> Member | None:
        """Ask a member to drain."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_SQL["retire_member"], name)
        return None if row is None else rows.member(row)

    async def leave(self, name: str) -> FleetView:
        """Give a lease back."""
        return await self._without("remove_member", name)

    async def expire(self) -> FleetView:
        """Remove members whose lease has run out."""
        async with self._connection() as connection:
            found = await connection.fetch(_SQL["members_all"])
        if any(row["expired"] for row in found):
            return await self._without("remove_expired")
        members = tuple(rows.member(row) for row in found if row["name"])
        return FleetView(found[0]["head"], members, changed=False)

    async def extend(self, lease_s: float) -> None:
        """Let every lease run on."""
        async with self._connection() as connection:
            await connection.execute(_SQL["extend_leases"], lease_s)

    async def _without(self, query: str, *arguments: str) -> FleetView:
        async with self._connection() as connection, connection.transaction():
            position = await connection.fetchval(_SQL["lock_head"])
            gone = await connection.fetch(_SQL[query], *arguments)
            return await self._told(connection, position, changed=bool(gone))

    async def _told(
        self, connection: Connection, position: int, *, changed: bool, name: str = ""
    ) -> FleetView:
        found = await connection.fetch(_SQL["members_live"])
        members = tuple(rows.member(row) for row in found)
        if changed:
            await connection.execute(_SQL["add_feed"], *rows.feed([Joined(members)], position))
            position += 1
            await connection.execute(_SQL["advance_head"], position, 0, 0, 0, 0)
        return FleetView(position, members, changed, _asked(found, name))

    # --- looking after ----------------------------------------------------------------------------

    async def status(self) -> Status:
        """Schema version, counts, sizes."""
        async with self._reading() as connection:
            server = await connection.fetchval("SHOW server_version")
            schema = await connection.fetchval("SELECT max(number) FROM migrations")
            position = await connection.fetchval(_SQL["position"])
            counts = await connection.fetch(_SQL["row_counts"])
            sizes = await connection.fetch(_SQL["table_sizes"])
        return Status(f"PostgreSQL {server}", schema, position, dict(counts), dict(sizes))

    async def streams(self) -> list[tuple[Specification, StoredState]]:
        """All learning states."""
        async with self._connection() as connection:
            found = await connection.fetch(_SQL["states_all"])
        return [
            (
                rows.specification(row["specification"]),
                StoredState(row["stream"], row["version"], row["body"]),
            )
            for row in found
        ]

    async def snapshot(self, stream: str, version: int) -> StoredState | None:
        """The newest kept state that is not newer."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_SQL["snapshot_before"], stream, version)
        return None if row is None else StoredState(*row)

    async def events(self, stream: str, after: int, upto: int) -> list[Decision | Verdict]:
        """What a stream learned."""
        async with self._connection() as connection:
            found = await connection.fetch(_SQL["events_between"], stream, after, upto)
        read: dict[str, Callable[[bytes], Decision | Verdict]] = {
            "D": rows.decision,
            "V": rows.verdict,
        }
        return [read[row["kind"]](row["body"]) for row in found]

    @asynccontextmanager
    async def auditing(self) -> AsyncIterator[PostgresReader]:
        """Everything as it is stored at one moment, for `store.audit`."""
        async with self._reading() as connection:
            yield PostgresReader(connection)

    async def faults(self) -> list[str]:
        """Promises broken, each in words."""
        async with self._reading() as connection:
            return [row[0] for name in _CHECKS for row in await connection.fetch(_SQL[name])]


def _idle(store: PostgresStore) -> int:
    pool = store._pool  # noqa: SLF001 - its own
    return int(pool.get_idle_size()) if pool is not None else 0


def _busy(store: PostgresStore) -> int:
    pool = store._pool  # noqa: SLF001 - its own
    return int(pool.get_size() - pool.get_idle_size()) if pool is not None else 0


def _gather(parts: list[bytes]) -> Callable[[bytes], Coroutine[Any, Any, None]]:
    async def take(data: bytes) -> None:
        parts.append(data)

    return take


async def _changes(connection: Connection, after: int, limit: int) -> list[Any]:
    found = await connection.fetch(_SQL["feed_after"], after, limit)
    if found and found[0]["position"] == after + 1:
        return list(found)
    head = await connection.fetchval(_SQL["position"])
    if found or after > head:
        raise Behind(
            f"feed position {after} is not among the changes kept up to {head}: load again and"
            " follow from now"
        )
    return []


def _whole(changes: Sequence[Change], newest: Mapping[str, Learned]) -> tuple[Change, ...]:
    return tuple(newest.get(c.stream, c) if isinstance(c, Learned) else c for c in changes)


def _asked(found: Sequence[Any], name: str) -> bool:
    return any(row["asked"] for row in found if row["name"] == name)


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
