"""Changes one stored value at a time, in every column of every table, to test the audit."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg

_COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'
ORDER BY c.table_name, c.ordinal_position
"""


@dataclass(frozen=True)
class Column:
    """One column of the schema, as PostgreSQL describes it."""

    table: str
    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.table}.{self.name}"


async def every_column(connection: Any) -> list[Column]:
    """Return all columns of all tables, as read from the database."""
    return [Column(*row) for row in await connection.fetch(_COLUMNS)]


async def rows_of(
    connection: Any, table: str, chosen: Callable[[Any], bool] = lambda _: True
) -> list[Any]:
    """Return the first, middle and last row that ``chosen`` accepts, each with its ``ctid``."""
    every = await connection.fetch(f"SELECT ctid, * FROM {table} ORDER BY 2, 3")
    found = [row for row in every if chosen(row)]
    return [found[at] for at in sorted({0, len(found) // 2, len(found) - 1})] if found else []


def others(column: Column, value: Any) -> list[Any]:
    """Return values different from ``value`` that the column could hold."""
    return [each for each in _others(column, value) if each != value]


def _others(column: Column, value: Any) -> Iterator[Any]:
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1, value + 1_000_003)
        case float():
            yield from (math.nextafter(value, 2.0 * value + 1.0), value + 0.001, 1.5)
        case bytes():
            for at in sorted({0, len(value) // 3, len(value) // 2, len(value) - 1}):
                yield value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
            yield value[:-1]
        case datetime.datetime():
            yield value + datetime.timedelta(seconds=1)
        case str() if column.kind == "jsonb":
            yield from _other_json(json.loads(value))
        case str():
            yield from (value + "x", value[:-1] or "y")
        case None:
            yield "LONG" if column.name == "direction" else "no_memory"


def _other_json(value: Any) -> Iterator[str]:
    """Yield copies of the JSON document, each with one value changed or added."""
    if not isinstance(value, dict):
        yield json.dumps([value])
        return
    yield json.dumps(value | {"unheard_of": 1})
    for name, old in value.items():
        yield json.dumps(value | {name: f"{old}x" if isinstance(old, str) else old + 1})


async def change(connection: Any, column: Column, place: str, value: Any) -> bool:
    """Store ``value`` in a column of the row whose ctid is ``place``; check no foreign keys.

    Return False when PostgreSQL refuses the value.
    """
    cast = "::text::jsonb" if column.kind == "jsonb" else ""
    query = f"UPDATE {column.table} SET {column.name} = $1{cast} WHERE ctid = $2"
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(query, value, place)
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.SyntaxOrAccessError):
        return False
    return True
