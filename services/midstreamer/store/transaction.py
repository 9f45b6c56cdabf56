"""The write transaction on PostgreSQL: it reads what is stored, then inserts all new rows.

It runs on a connection of `store.postgres`, which also translates its errors.  From `COPY_ROWS`
points on, points are inserted by binary COPY.  Fewer points are inserted as arrays through
``unnest``, because a COPY then saves less time than its two additional round trips take.  Both
ways insert straight into the table, without handling conflicts.  Conflicts cannot arise: only one
transaction writes at a time, and it has read what is stored.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import StoreError
from midstreamer.domain.series import Column, Floats, Integers
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import SeriesSummary
from midstreamer.store import binary_copy, queries, row_conversion
from midstreamer.store.store_interface import (
    Effects,
    Mark,
    Point,
    Run,
    Span,
    StoredState,
    Ticks,
    Unreadable,
    Usage,
)

COPY_ROWS = 300
"""Number of points from which binary COPY is used instead of ``unnest``."""

_SQL = queries.load()


class PostgresTransaction:
    """A write transaction on one connection; implements `store.store_interface.Transaction`."""

    def __init__(self, connection: Any, position: int) -> None:
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
        return {row["name"]: row_conversion.summary(row) for row in found}

    async def ticks(self, times: Mapping[str, Integers]) -> dict[str, Ticks]:
        found = {}
        for name, wanted in times.items():
            part = await self._fetch("ticks_at", self._series_ids.get(name), wanted.tolist())
            if part:
                known = np.array([row["time"] for row in part], "<i8")
                values = np.array([row["value"] for row in part], "<f8")
                found[name] = Ticks(known, values)
        return found

    async def points_at(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Point]:
        if not keys:
            return {}
        found = await self._fetch("points_at", [key[0] for key in keys], [key[1] for key in keys])
        return {(row["name"], row["index"]): Point(row["time"], row["value"]) for row in found}

    async def windows(self, runs: Sequence[Run]) -> dict[Run, Floats]:
        if not runs:
            return {}
        columns = (list(column) for column in zip(*runs, strict=True))
        found = await self._fetch("windows", *columns)
        return {
            runs[row["place"] - 1]: np.frombuffer(row["values"], ">f8").astype("<f8")
            for row in found
        }

    async def decisions(
        self, experience_ids: Sequence[bytes]
    ) -> dict[bytes, Decision | Unreadable]:
        if not experience_ids:
            return {}
        found = await self._fetch("decisions_by_id", list(experience_ids))
        return {row["experience_id"]: row_conversion.readable(row) for row in found}

    async def due(self, runs: Sequence[Run]) -> list[Decision | Unreadable]:
        if not runs:
            return []
        found = await self._fetch("due", *(list(column) for column in zip(*runs, strict=True)))
        return [row_conversion.readable(row) for row in found]

    async def settled(self, spans: Sequence[Span], limit: int) -> list[Verdict]:
        if not spans:
            return []
        columns = (list(column) for column in zip(*spans, strict=True))
        return [
            row_conversion.verdict(row["body"])
            for row in await self._fetch("settled", *columns, limit)
        ]

    async def states(self, known: Mapping[str, int]) -> dict[str, StoredState]:
        if not known:
            return {}
        await self._fetch("lock_streams", list(known))
        found = await self._fetch("states_unknown", list(known), list(known.values()))
        return {row["stream"]: StoredState(*row) for row in found}

    async def known_streams(self, streams: Sequence[str]) -> set[str]:
        return {row["stream"] for row in await self._fetch("streams_known", list(streams))}

    async def usage(self, identities: Sequence[str]) -> tuple[Usage, dict[str, Usage]]:
        found = await self._fetch("usage", list(identities))
        usage = {row["identity"]: Usage(row["series"], row["streams"]) for row in found}
        return usage.pop(None), usage

    async def marks(self, writers: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Mark]:
        columns = [writer[0] for writer in writers], [writer[1] for writer in writers]
        found = await self._fetch("marks", *columns)
        return {(row["identity"], row["incarnation"]): Mark(*row) for row in found}

    async def apply(self, effects: Effects) -> int:
        await self._add_points(effects)
        await self._put("add_specifications", row_conversion.specifications(effects.decisions))
        await self._put("add_decisions", row_conversion.decisions(effects.decisions))
        await self._put("add_verdicts", row_conversion.verdicts(effects.verdicts))
        await self._put("add_events", row_conversion.events(effects.events))
        await self._put_states(effects)
        await self._put("put_marks", row_conversion.marks(effects.marks))
        await self._put("add_feed", row_conversion.feed(effects.changes, self._position))
        brought = effects.brought
        await self._put("add_usage", row_conversion.identities(brought))
        if effects.changes or effects.decisions or brought:
            self._position += len(effects.changes)
            new = (sum(counts) for counts in zip(*brought.values(), strict=True))
            counts = (len(effects.decisions), len(effects.verdicts), *(new if brought else (0, 0)))
            await self._connection.execute(_SQL["advance_head"], self._position, *counts)
        return self._position

    async def _put(self, name: str, columns: row_conversion.Columns) -> None:
        arguments = _SQL.bind(name, columns)
        # Without rows, execute no statement. All columns have the same length: the number of rows.
        if arguments[0]:
            await self._connection.execute(_SQL[name], *arguments)

    async def _put_states(self, effects: Effects) -> None:
        if not effects.states:
            return
        columns = _SQL.bind("put_states", row_conversion.states(effects))
        put = {row["stream"] for row in await self._fetch("put_states", *columns)}
        for _, state in effects.states:
            if state.stream not in put:
                raise StoreError(
                    f"stream {state.stream}: another sync has stored a newer state; retry",
                    retry_after_s=0.05,
                )
        await self._put("add_snapshots", row_conversion.snapshots(effects.snapshots))

    async def _add_points(self, effects: Effects) -> None:
        points = effects.points
        if not points:
            return
        series_ids = await self._grow([column for _, column in points], effects.series_makers)
        placed = [(series_ids[column.series], start, column) for start, column in points]
        if sum(len(column) for _, column in points) >= COPY_ROWS:
            await self._connection.copy_to_table(
                "points",
                source=io.BytesIO(binary_copy.points(placed)),
                columns=["series_id", "index", "time", "value"],
                format="binary",
            )
            return
        await self._put("add_points", row_conversion.points(placed))

    async def _grow(self, columns: Sequence[Column], makers: Mapping[str, str]) -> dict[str, int]:
        """Update the row of each known series and insert one for each new series.

        Return {name: id} of all these series.
        """
        arguments = _SQL.bind("put_series", row_conversion.series(columns, makers))
        found = await self._fetch("put_series", *arguments)
        return {row["name"]: row["id"] for row in found}
