"""The store on PostgreSQL, version 14 or newer.

It uses a pool of connections, which replaces lost connections by itself.  One transaction at a time
writes (`store.transaction`); reads run at the same time on other connections.  Errors of PostgreSQL
are translated to a StoreError that says what to do.
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
from midstreamer.store import (
    audit_rows,
    binary_copy,
    commit_notifications,
    dsn,
    migrate,
    queries,
    row_conversion,
)
from midstreamer.store.audit_rows import PostgresReader
from midstreamer.store.commit_notifications import Ear
from midstreamer.store.driver import Connection, Way, door
from midstreamer.store.store_interface import (
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
from midstreamer.store.transaction import PostgresTransaction
from midstreamer.telemetry import metrics, queues

SERVER_MIN = 14
"""Oldest major version of PostgreSQL that is supported."""

_SQL = queries.load()
_CHECKS = audit_rows.CHECKS


class PostgresStore:
    """A store on the PostgreSQL server that a DSN names: a `store.store_interface.Store`."""

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
        """``source`` is the DSN; ``connections`` is the size of the pool.

        ``connect_s`` is the limit for connecting, ``command_s`` for one statement, in seconds.
        ``trust`` and ``password`` are called for each new connection (see `driver.Way`).
        """
        checked = dsn.checked(source, by_fleet=trust is not None)
        self._way = Way(checked, connect_s, command_s, trust, password)
        self._connections = connections
        self._connect_s = connect_s
        self._pool: Any = None
        self._writer_pid = 0
        """Id of the PostgreSQL process that serves the last write transaction."""
        metrics.POOL_CAPACITY.set(connections)
        for state, count in (("busy", _busy), ("idle", _idle)):
            queues.shown(metrics.POOL_CONNECTIONS.labels(state), self, count)

    # --- connecting -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and migrate the schema; may be called again, also after a failure."""
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
                f"PostgreSQL {version.major} is older than {SERVER_MIN}: name a newer server in"
                " sync.dsn"
            )

    async def close(self) -> None:
        """Close every connection of the pool."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with door():
            if self._pool is None:
                raise StoreError("the store is not open yet: retry later", retry_after_s=0.5)
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
        """Open a read-only transaction, in which all reads see the same snapshot."""
        async with (
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open the write transaction; wait until no other process writes."""
        async with self._connection() as connection, connection.transaction():
            self._writer_pid = connection.get_server_pid()
            position = await connection.fetchval(_SQL["lock_head"])
            yield PostgresTransaction(connection, position)

    # --- reading ----------------------------------------------------------------------------------

    async def position(self) -> int:
        """Return the last committed position of the feed."""
        async with self._connection() as connection:
            return int(await connection.fetchval(_SQL["position"]))

    async def totals(self) -> Totals:
        """Return how many ticks, decisions and verdicts are stored."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_SQL["totals"])
        return Totals(row["position"], row["ticks"], row["decisions"], row["verdicts"])

    async def catalogue(self, after: str, limit: int) -> CataloguePage:
        """Return a page of series, sorted by name."""
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            found = await connection.fetch(_SQL["summaries_after"], after, limit + 1)
        series = tuple(row_conversion.summary(row) for row in found[:limit])
        return CataloguePage(position, series, len(found) > limit)

    async def load(self, runs: Sequence[Run], limit: int) -> list[LoadedRun]:
        """Return the points of these runs in order, up to ``limit`` points in all, by one COPY."""
        data: list[bytes] = []
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            names = list({run.series for run in runs})
            found = await connection.fetch(_SQL["series_counts"], names)
            ids = {row["name"]: row["id"] for row in found}
            counts = {row["name"]: row["count"] for row in found}
            missing = next((name for name in names if name not in ids), None)
            if missing is not None:
                raise UnknownSeries(f"series {shortened(missing)}: no point of it is stored")
            loaded = fitting(runs, counts, limit)
            if any(run.stop > run.start for run in loaded):
                # COPY takes no parameters; formatting is safe because all values are integers.
                values = ",".join(
                    f"({place}, {ids[run.series]}, {run.start}::bigint, {run.stop}::bigint)"
                    for place, run in enumerate(loaded)
                )
                query = _SQL["points_copy"].replace("$1", values)
                await connection.copy_from_query(query, output=_gather(data), format="binary")
        points = binary_copy.runs(b"".join(data), len(loaded))
        return [
            LoadedRun(position, run.start, *pair, counts[run.series])
            for run, pair in zip(loaded, points, strict=True)
        ]

    async def experiences(
        self, experience_ids: Sequence[bytes]
    ) -> tuple[list[Decision], list[Verdict]]:
        """Return the stored decisions and verdicts with these ids."""
        async with self._reading() as connection:
            decisions = await connection.fetch(_SQL["decisions_by_id"], list(experience_ids))
            verdicts = await connection.fetch(_SQL["verdicts_by_id"], list(experience_ids))
        return (
            [row_conversion.read(row) for row in decisions],
            [row_conversion.verdict(row["body"]) for row in verdicts],
        )

    async def feed(self, after: int, limit: int, *, states: bool = True) -> FeedPage:
        """Return the next page of the feed after a position."""
        async with self._reading() as connection:
            found = await _changes(connection, after, limit)
            changes = alone([row_conversion.change(row["body"]) for row in found])
            newest = await self._newest(connection, changes) if states else {}
        return FeedPage(_whole(changes, newest), found[-1]["position"] if found else after)

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        """Return at most ``limit`` changes after a position, one for each position.

        The changes and the states are read without a common snapshot, which would cost three more
        round trips.  So a state may be newer than its change.  This does no harm, because followers
        want only the newest state.
        """
        async with self._connection() as connection:
            found = await _changes(connection, after, limit)
            changes = [row_conversion.change(row["body"]) for row in found]
            return _whole(changes, await self._newest(connection, changes))

    async def watch(self, heard: Heard, *, period_s: float) -> None:
        """Listen for commits on a separate connection, and poll the position there."""
        async with door():
            connection = await self._way.connect("midstreamer feed", command_s=self._connect_s)
            try:
                ear = Ear(connection, heard, ours=lambda pid: pid == self._writer_pid)
                await ear.listen(period_s=period_s, ring=self._ring)
            finally:
                connection.terminate()

    async def _ring(self, word: str) -> None:
        """Send a notification with the text ``word`` on a connection of the pool."""
        async with self._connection() as connection:
            await connection.execute("SELECT pg_notify($1, $2)", commit_notifications.CHANNEL, word)

    async def _newest(
        self, connection: Connection, changes: Sequence[Change]
    ) -> dict[str, Learned]:
        streams = list({change.stream for change in changes if isinstance(change, Learned)})
        if not streams:
            return {}
        found = await connection.fetch(_SQL["states_of"], streams)
        return {row["stream"]: Learned(*row) for row in found}

    async def present(self) -> Present:
        """Return all members, at the present position of the feed."""
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            members = await connection.fetch(_SQL["members_live"])
        return Present(position, tuple(row_conversion.member(row) for row in members))

    async def state(self, stream: str) -> tuple[int, StoredState | None]:
        """Return the position of the feed and the newest state of a stream."""
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            row = await connection.fetchrow(_SQL["state_of"], stream)
        return position, None if row is None else StoredState(*row)

    async def trim(self, keep: int) -> int:
        """Delete all but the last ``keep`` changes of the feed; return how many were deleted.

        Also delete the progress of each writer that has sent no Write for 30 days.
        """
        async with self._connection() as connection:
            await connection.execute(_SQL["forget_writers"])
            return _count(await connection.execute(_SQL["trim_feed"], keep))

    # --- leases -----------------------------------------------------------------------------------

    async def renew(self, member: Member, lease_s: float) -> FleetView:
        """Take or renew a lease.

        The feed is written only if the lease is new or a field of `seen_by_others` has changed.
        """
        row = (
            *(member.name, member.incarnation, member.address, member.position),
            *(member.held, row_conversion.json(member.evidence), member.whole_for, member.whole_at),
            lease_s,
        )
        async with self._connection() as connection:
            found = await connection.fetch(_SQL["renew_member"], *row)
            if found:
                # The statement returns the member's own row as it was before the renewal.  So
                # replace it by ``member``, which has the new values.
                fleet = (row_conversion.member(row) for row in found)
                members = tuple(member if peer.name == member.name else peer for peer in fleet)
                asked = _asked(found, member.name)
                return FleetView(found[0]["head"], members, changed=False, drain=asked)
            async with connection.transaction():
                position = await connection.fetchval(_SQL["lock_head"])
                await connection.execute(_SQL["put_member"], *row)
                return await self._told(connection, position, changed=True, name=member.name)

    async def retire(self, name: str) -> Member | None:
        """Mark a member to be drained, and return it; None if the member has no lease."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_SQL["retire_member"], name)
        return None if row is None else row_conversion.member(row)

    async def leave(self, name: str) -> FleetView:
        """Delete the lease of a member; if there was one, publish the remaining members."""
        return await self._without("remove_member", name)

    async def expire(self) -> FleetView:
        """Remove members whose lease has expired.

        If any member was removed, publish the remaining members.
        """
        async with self._connection() as connection:
            found = await connection.fetch(_SQL["members_all"])
        if any(row["expired"] for row in found):
            return await self._without("remove_expired")
        members = tuple(row_conversion.member(row) for row in found if row["name"])
        return FleetView(found[0]["head"], members, changed=False)

    async def extend(self, lease_s: float) -> None:
        """Let every lease last at least ``lease_s`` seconds from now."""
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
        members = tuple(row_conversion.member(row) for row in found)
        if changed:
            columns = _SQL.bind("add_feed", row_conversion.feed([Joined(members)], position))
            await connection.execute(_SQL["add_feed"], *columns)
            position += 1
            await connection.execute(_SQL["advance_head"], position, 0, 0, 0, 0)
        return FleetView(position, members, changed, _asked(found, name))

    # --- administration ---------------------------------------------------------------------------

    async def status(self) -> Status:
        """Return the server's version, the schema version, row counts and table sizes."""
        async with self._reading() as connection:
            server = await connection.fetchval("SHOW server_version")
            schema = await connection.fetchval("SELECT max(number) FROM migrations")
            position = await connection.fetchval(_SQL["position"])
            counts = await connection.fetch(_SQL["row_counts"])
            sizes = await connection.fetch(_SQL["table_sizes"])
        return Status(f"PostgreSQL {server}", schema, position, dict(counts), dict(sizes))

    async def streams(self) -> list[tuple[Specification, StoredState]]:
        """Return all learning states with their specifications."""
        async with self._connection() as connection:
            found = await connection.fetch(_SQL["states_all"])
        return [
            (
                row_conversion.specification(row["specification"]),
                StoredState(row["stream"], row["version"], row["body"]),
            )
            for row in found
        ]

    async def snapshot(self, stream: str, version: int) -> StoredState | None:
        """Return a stream's newest snapshot that is not newer than ``version``."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_SQL["snapshot_before"], stream, version)
        return None if row is None else StoredState(*row)

    async def events(self, stream: str, after: int, upto: int) -> list[Decision | Verdict]:
        """Return the events that led a stream from version ``after`` to ``upto``, in order."""
        async with self._connection() as connection:
            found = await connection.fetch(_SQL["events_between"], stream, after, upto)
        read: dict[str, Callable[[bytes], Decision | Verdict]] = {
            "D": row_conversion.decision,
            "V": row_conversion.verdict,
        }
        return [read[row["kind"]](row["body"]) for row in found]

    @asynccontextmanager
    async def auditing(self) -> AsyncIterator[PostgresReader]:
        """Open a reader of one consistent snapshot, for `store.audit`."""
        async with self._reading() as connection:
            yield PostgresReader(connection)

    async def faults(self) -> list[str]:
        """Return a sentence for each broken invariant of the stored rows."""
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
            " follow from the present position"
        )
    return []


def _whole(changes: Sequence[Change], newest: Mapping[str, Learned]) -> tuple[Change, ...]:
    return tuple(newest.get(c.stream, c) if isinstance(c, Learned) else c for c in changes)


def _asked(found: Sequence[Any], name: str) -> bool:
    return any(row["asked"] for row in found if row["name"] == name)


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
