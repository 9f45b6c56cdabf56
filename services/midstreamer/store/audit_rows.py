"""Reads rows of named queries for `store.audit`, all at once or in pages of a cursor.

It uses a connection of `store.postgres` inside a transaction, because cursors need one.  Statements
have practically no timeout, because sorting all decisions may take minutes; Ctrl-C ends a check.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from midstreamer.store import queries

STATEMENT_S = 24 * 3600.0
"""Timeout of one statement, in seconds."""

_SQL = queries.load()
CHECKS = sorted(name for name in _SQL if name.startswith("check_"))
"""Names of the queries that look for broken invariants. Each row that such a query returns is a
sentence about one broken invariant."""


class PostgresReader:
    """Reads rows of named queries on one connection; implements `store.audit.Reader`."""

    checks: Iterable[str] = CHECKS

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, name: str, *arguments: Any) -> list[Any]:
        """Return all rows of a named query."""
        return list(await self._connection.fetch(_SQL[name], *arguments, timeout=STATEMENT_S))

    async def pages(self, name: str, *arguments: Any, size: int) -> AsyncIterator[list[Any]]:
        """Yield the rows of a named query in pages of ``size`` rows."""
        cursor = await self._connection.cursor(_SQL[name], *arguments, timeout=STATEMENT_S)
        while page := await cursor.fetch(size, timeout=STATEMENT_S):
            yield list(page)
