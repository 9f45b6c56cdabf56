"""Rows of named queries on PostgreSQL, whole or by cursor: what `store.audit` reads with.

It runs on a connection that `store.postgres` hands in, inside a transaction, which cursors need.
No statement has a deadline: a sort of all decisions may take minutes, and Ctrl-C ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from midstreamer.store import queries

STATEMENT_S = 24 * 3600.0

_SQL = queries.load()
CHECKS = sorted(name for name in _SQL if name.startswith("check_"))


class PostgresReader:
    """Reads on one connection."""

    checks: Iterable[str] = CHECKS

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, name: str, *arguments: Any) -> list[Any]:
        """All rows of a query."""
        return list(await self._connection.fetch(_SQL[name], *arguments, timeout=STATEMENT_S))

    async def pages(self, name: str, *arguments: Any, size: int) -> AsyncIterator[list[Any]]:
        """The rows of a query, a page at a time."""
        cursor = await self._connection.cursor(_SQL[name], *arguments, timeout=STATEMENT_S)
        while page := await cursor.fetch(size, timeout=STATEMENT_S):
            yield list(page)
