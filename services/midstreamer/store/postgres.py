"""The store on PostgreSQL, 14 or newer: the only module that knows asyncpg.

A pool of connections that are made again by themselves; one transaction at a time writes (see
`store.ports`), reads run beside it on connections of their own.  Few rows go in as arrays through
``unnest``, many points by binary COPY; since a writer is alone and has read what is stored, both
go straight into the table and nothing is merged.  Every error leaves here as a StoreError that
says what to do.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import numpy as np

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import Behind, StoreError, UnknownSeries
from midstreamer.domain.series import Column
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Change, Joined, Learned, Member, SeriesSummary
from midstreamer.store import copying, dsn, migrate, queries, rows, trouble
from midstreamer.store.ports import (
    Effects,
    FeedPage,
    FleetView,
    LoadedRun,
    Mark,
    Point,
    Present,
    Run,
    Span,
    Status,
    StoredState,
    Ticks,
    Totals,
    Transaction,
    alone,
    seen_by_others,
)

COPY_ROWS = 300
"""From this many points on a COPY beats arrays: it costs two round trips more and less a row."""
SERVER_MIN = 14

_SQL = queries.load()
_CHECKS = sorted(name for name in _SQL if name.startswith("check_"))
Connection = Any  # asyncpg ships no types of its own


@asynccontextmanager
async def _door() -> AsyncIterator[None]:
    """Where asyncpg's errors become ours."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise trouble.explain(error.sqlstate or "", str(error)) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        raise trouble.absent(error) from error


async def _as_it_is(_connection: Connection) -> None:
    """In place of asyncpg's RESET ALL: no session state is ever set, and it is a round trip."""


class PostgresStore:
    """Any PostgreSQL by DSN."""

    def __init__(
        self,
        source: str,
        *,
        connections: int = 6,
        connect_s: float = 5.0,
        command_s: float = 60.0,
    ) -> None:
        self._dsn = dsn.checked(source)
        self._connections = connections
        self._connect_s = connect_s
        self._command_s = command_s
        self._pool: Any = None

    # --- connecting -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and migrate; after a failure it may be called again."""
        await self.close()
        async with _door():
            pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._connections,
                timeout=self._connect_s,
                command_timeout=self._command_s,
                reset=_as_it_is,
                server_settings={"application_name": "midstreamer", "jit": "off"},
            )
        try:
            async with _door(), pool.acquire() as connection:
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
                " store.dsn"
            )

    async def close(self) -> None:
        """Let go of every connection."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with _door():
            if self._pool is None:
                raise StoreError("the store is not open yet: wait", retry_after_s=0.5)
            async with self._pool.acquire(timeout=self._connect_s) as connection:
                yield connection

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        """Several reads that are true at one moment."""
        async with self._connection() as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Alone among writers until the block ends."""
        async with self._connection() as connection, connection.transaction():
            position = await connection.fetchval(_SQL["lock_head"])
            yield _Transaction(connection, position)

    # --- reading ----------------------------------------------------------------------------------

    async def position(self) -> int:
        """The last committed position of the feed."""
        async with self._connection() as connection:
            return int(await connection.fetchval(_SQL["position"]))

    async def totals(self) -> Totals:
        """The catalogue."""
        async with self._reading() as connection:
            head = await connection.fetchrow(_SQL["totals"])
            found = await connection.fetch(_SQL["summaries_all"])
        series = tuple(rows.summary(row) for row in found)
        return Totals(head["position"], series, head["decisions"], head["verdicts"])

    async def load(self, run: Run, limit: int) -> LoadedRun:
        """At most ``limit`` points of a run."""
        start = max(run.start, 0)
        stop = max(start, min(run.stop, start + limit))
        parts: list[bytes] = []
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            series = await connection.fetchrow(_SQL["series_count"], run.series)
            if series is None:
                raise UnknownSeries(f"series {run.series}: nothing is stored of it")
            query = _SQL["points_copy"]
            for place, number in enumerate((series["id"], start, stop), 1):
                # COPY takes no parameters; these are integers.
                query = query.replace(f"${place}", str(int(number)))
            await connection.copy_from_query(query, output=_gather(parts), format="binary")
        times, values = copying.pairs(b"".join(parts))
        return LoadedRun(position, start, times, values, series["count"])

    async def experiences(
        self, experience_ids: Sequence[bytes]
    ) -> tuple[list[Decision], list[Verdict]]:
        """What is stored of these."""
        async with self._reading() as connection:
            made = await connection.fetch(_SQL["decisions_by_id"], list(experience_ids))
            came = await connection.fetch(_SQL["verdicts_by_id"], list(experience_ids))
        return (
            [rows.decision(row["body"]) for row in made],
            [rows.verdict(row["body"]) for row in came],
        )

    async def feed(self, after: int, limit: int) -> FeedPage:
        """Changes after a position."""
        async with self._reading() as connection:
            head = await connection.fetchval(_SQL["position"])
            found = await connection.fetch(_SQL["feed_after"], after, limit)
            if after < head and (not found or found[0]["position"] != after + 1):
                raise Behind(
                    f"feed position {after} is older than the changes kept, the last is {head}:"
                    " load again and follow from now"
                )
            changes = alone([rows.change(row["body"]) for row in found])
            states = await self._newest(connection, changes)
        whole = tuple(states[c.stream] if isinstance(c, Learned) else c for c in changes)
        return FeedPage(whole, found[-1]["position"] if found else after)

    async def _newest(
        self, connection: Connection, changes: Sequence[Change]
    ) -> dict[str, Learned]:
        streams = [change.stream for change in changes if isinstance(change, Learned)]
        if not streams:
            return {}
        found = await connection.fetch(_SQL["states_of"], streams)
        return {row["stream"]: Learned(*row) for row in found}

    async def present(self) -> Present:
        """All states and members."""
        async with self._reading() as connection:
            position = await connection.fetchval(_SQL["position"])
            states = await connection.fetch(_SQL["states_all"])
            members = await connection.fetch(_SQL["members_live"])
        return Present(
            position,
            tuple(Learned(row["stream"], row["version"], row["body"]) for row in states),
            tuple(rows.member(row) for row in members),
        )

    async def trim(self, keep: int) -> int:
        """Forget old changes and writers that are long gone."""
        async with self._connection() as connection:
            await connection.execute(_SQL["forget_writers"])
            return _count(await connection.execute(_SQL["trim_feed"], keep))

    # --- leases -----------------------------------------------------------------------------------

    async def renew(self, member: Member, lease_s: float) -> FleetView:
        """Take or renew a lease; the head is locked only when others must be told."""
        async with self._connection() as connection, connection.transaction():
            before = await self._members(connection)
            old = next((one for one in before if one.name == member.name), None)
            changed = old is None or seen_by_others(old) != seen_by_others(member)
            position = await connection.fetchval(_SQL["lock_head" if changed else "position"])
            await connection.execute(
                _SQL["put_member"],
                *(member.name, member.incarnation, member.address, member.position),
                *(rows.json(member.holdings), rows.json(member.evidence), lease_s),
            )
            return await self._told(connection, position, changed=changed)

    async def leave(self, name: str) -> FleetView:
        """Give a lease back."""
        return await self._without("remove_member", name)

    async def expire(self) -> FleetView:
        """Remove members whose lease has run out."""
        async with self._connection() as connection:
            if not await connection.fetchval(_SQL["members_expired"]):
                position = await connection.fetchval(_SQL["position"])
                return await self._told(connection, position, changed=False)
        return await self._without("remove_expired")

    async def extend(self, lease_s: float) -> None:
        """Let every lease run on."""
        async with self._connection() as connection:
            await connection.execute(_SQL["extend_leases"], lease_s)

    async def _without(self, query: str, *arguments: str) -> FleetView:
        async with self._connection() as connection, connection.transaction():
            position = await connection.fetchval(_SQL["lock_head"])
            gone = await connection.fetch(_SQL[query], *arguments)
            return await self._told(connection, position, changed=bool(gone))

    async def _members(self, connection: Connection) -> tuple[Member, ...]:
        found = await connection.fetch(_SQL["members_live"])
        return tuple(rows.member(row) for row in found)

    async def _told(self, connection: Connection, position: int, *, changed: bool) -> FleetView:
        members = await self._members(connection)
        if changed:
            await connection.execute(_SQL["add_feed"], *rows.feed([Joined(members)], position))
            position += 1
            await connection.execute(_SQL["advance_head"], position, 0, 0)
        return FleetView(position, members, changed)

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

    async def faults(self) -> list[str]:
        """Promises broken, each in words."""
        async with self._reading() as connection:
            return [row[0] for name in _CHECKS for row in await connection.fetch(_SQL[name])]


class _Transaction:
    """One write transaction on one connection."""

    def __init__(self, connection: Connection, position: int) -> None:
        self._connection = connection
        self._position = position
        self._series_ids: dict[str, int] = {}

    @property
    def position(self) -> int:
        return self._position

    async def _fetch(self, name: str, *arguments: Any) -> list[Any]:
        return list(await self._connection.fetch(_SQL[name], *arguments))

    async def summaries(self, names: Sequence[str]) -> dict[str, SeriesSummary]:
        found = await self._fetch("summaries", list(names))
        self._series_ids.update({row["name"]: row["id"] for row in found})
        return {row["name"]: rows.summary(row) for row in found}

    async def ticks(self, spans: Sequence[Span]) -> dict[str, Ticks]:
        found = {}
        for span in spans:
            series_id = self._series_ids.get(span.series)
            part = await self._fetch("ticks_in_span", series_id, span.first, span.last)
            if part:
                times = np.array([row["time"] for row in part], "<i8")
                values = np.array([row["value"] for row in part], "<f8")
                found[span.series] = Ticks(part[0]["index"], times, values)
        return found

    async def points_at(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Point]:
        if not keys:
            return {}
        found = await self._fetch("points_at", [key[0] for key in keys], [key[1] for key in keys])
        return {(row["name"], row["index"]): Point(row["time"], row["value"]) for row in found}

    async def decisions(self, experience_ids: Sequence[bytes]) -> dict[bytes, Decision]:
        if not experience_ids:
            return {}
        found = await self._fetch("decisions_by_id", list(experience_ids))
        return {row["experience_id"]: rows.decision(row["body"]) for row in found}

    async def due(self, runs: Sequence[Run]) -> list[Decision]:
        if not runs:
            return []
        found = await self._fetch("due", *(list(column) for column in zip(*runs, strict=True)))
        return [rows.decision(row["body"]) for row in found]

    async def settled(self, spans: Sequence[Span], limit: int) -> list[Verdict]:
        if not spans:
            return []
        columns = (list(column) for column in zip(*spans, strict=True))
        return [rows.verdict(row["body"]) for row in await self._fetch("settled", *columns, limit)]

    async def states(self, known: Mapping[str, int]) -> dict[str, StoredState]:
        if not known:
            return {}
        await self._fetch("lock_streams", list(known))
        found = await self._fetch("states_unknown", list(known), list(known.values()))
        return {row["stream"]: StoredState(*row) for row in found}

    async def marks(self, writers: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Mark]:
        columns = [one[0] for one in writers], [one[1] for one in writers]
        found = await self._fetch("marks", *columns)
        return {(row["identity"], row["incarnation"]): Mark(*row) for row in found}

    async def apply(self, effects: Effects) -> int:
        await self._add_points(effects.points)
        await self._put("add_specifications", rows.specifications(effects.decisions))
        await self._put("add_decisions", rows.decisions(effects.decisions))
        await self._put("add_verdicts", rows.verdicts(effects.verdicts))
        await self._put("add_events", rows.events(effects.events))
        await self._put_states(effects)
        await self._put("put_marks", [list(column) for column in zip(*effects.marks, strict=True)])
        await self._put("add_feed", rows.feed(effects.changes, self._position))
        if effects.changes or effects.decisions:
            self._position += len(effects.changes)
            counts = len(effects.decisions), len(effects.verdicts)
            await self._connection.execute(_SQL["advance_head"], self._position, *counts)
        return self._position

    async def _put(self, name: str, columns: rows.Columns) -> None:
        if columns:
            await self._connection.execute(_SQL[name], *columns)

    async def _put_states(self, effects: Effects) -> None:
        if not effects.states:
            return
        put = {row["stream"] for row in await self._fetch("put_states", *rows.states(effects))}
        for _, state in effects.states:
            if state.stream not in put:
                raise StoreError(f"stream {state.stream} was learned elsewhere", retry_after_s=0.05)
        kept = [list(column) for column in zip(*effects.snapshots, strict=True)]
        await self._put("add_snapshots", kept)

    async def _add_points(self, points: Sequence[tuple[int, Column]]) -> None:
        if not points:
            return
        series_ids = await self._grow([column for _, column in points])
        placed = [(series_ids[column.series], start, column) for start, column in points]
        if sum(len(column) for _, column in points) >= COPY_ROWS:
            await self._connection.copy_to_table(
                "points",
                source=io.BytesIO(copying.points(placed)),
                columns=["series_id", "index", "time", "value"],
                format="binary",
            )
            return
        flat = [
            (series_id, start + at, time, value)
            for series_id, start, column in placed
            for at, (time, value) in enumerate(
                zip(column.times_array().tolist(), column.values_array().tolist(), strict=True)
            )
        ]
        await self._put("add_points", [list(column) for column in zip(*flat, strict=True)])

    async def _grow(self, columns: Sequence[Column]) -> dict[str, int]:
        """Add to the counts of these series, making those that are new; returns their ids."""
        grown: dict[str, tuple[str, int, int, int, float]] = {}
        for column in columns:
            times, values = column.times_array(), column.values_array()
            _, count, first, _, _ = grown.get(column.series, ("", 0, int(times[0]), 0, 0.0))
            name, last = column.series, (int(times[-1]), float(values[-1]))
            grown[name] = (name, count + len(column), first, *last)
        made = await self._fetch(
            "put_series", *(list(part) for part in zip(*grown.values(), strict=True))
        )
        return {row["name"]: row["id"] for row in made}


def _gather(parts: list[bytes]) -> Callable[[bytes], Coroutine[Any, Any, None]]:
    async def take(data: bytes) -> None:
        parts.append(data)

    return take


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
