"""Migrates a database to the present schema by numbered .sql files, forward only, each file once.

This is a small runner instead of alembic.  Alembic needs SQLAlchemy and mako, and its features
(downgrades, generated revisions, branches) are not wanted here.  A migration is a file of SQL that
a reviewer reads exactly as it runs.

All pending migrations run in one transaction under an advisory lock.  So two processes that start
together migrate once, and a failed migration changes nothing.  The database keeps the checksum of
each file; a file that was edited after it ran is refused.

A database may be newer than the process.  During a rolling upgrade, processes of two versions use
the same database.  So a migration may name the oldest schema with which it is compatible, by a line
such as ``-- compatible: 0003``.  A process that knows at least that schema may use the migrated
database; an older process is refused.  A migration without this line is compatible with no older
schema.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple, Protocol

from midstreamer.domain.errors import StoreError

_LOCK = 0x6D696473  # the characters "mids"
_NAME = re.compile(r"(\d{4})_(\w+)\.sql\Z")
_COMPATIBLE = re.compile(r"^-- compatible: (\d{4})$", re.MULTILINE)

_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    number   integer PRIMARY KEY,
    name     text NOT NULL,
    checksum text NOT NULL,
    applied  timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE migrations ADD COLUMN IF NOT EXISTS compatible integer
"""


class Migration(NamedTuple):
    """One migration file: a step from the schema before it to schema ``number``."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Checksum of the text, to find out that a file was edited after it ran."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    @property
    def compatible(self) -> int:
        """Number of the oldest schema whose processes may use a database with this migration.

        A process may use the database if the newest schema that it knows has at least this number.
        """
        marked = _COMPATIBLE.search(self.text)
        return min(int(marked[1]), self.number) if marked else self.number


class Applied(NamedTuple):
    """A row of the table migrations: a migration that has run on the database."""

    number: int
    checksum: str
    compatible: int | None = None  # None: the migration ran before this column existed

    def refuses(self, schema: int) -> bool:
        """Return whether a process whose newest schema is ``schema`` must not use the database."""
        return schema < (self.number if self.compatible is None else self.compatible)


class Connection(Protocol):
    """The methods of an asyncpg connection that are used here."""

    async def execute(self, query: str, *args: Any) -> Any:
        """Execute one or several statements."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]:
        """Execute one statement and return its rows."""


def shipped() -> list[Migration]:
    """Return the migrations of this version, sorted by number."""
    return sorted(
        Migration(int(match[1]), match[2], file.read_text())
        for file in resources.files("midstreamer.store.migrations").iterdir()
        if (match := _NAME.match(file.name))
    )


def pending(applied: Iterable[Applied], known: Sequence[Migration]) -> list[Migration]:
    """Return the known migrations that have not run yet.

    Raise StoreError if the database has an incompatible newer migration, or if the file of a
    migration was edited after it ran.
    """
    by_number = {migration.number: migration for migration in known}
    newest = max(by_number, default=0)
    done = {row.number: row for row in applied}
    for row in done.values():
        ours = by_number.get(row.number)
        if ours is None and row.refuses(newest):
            raise StoreError(
                f"the database has schema {max(done)}, and this version knows {newest}: migration"
                f" {row.number:04d} is not marked as compatible with schema {newest}. Run the"
                " version that made the database, or a newer one"
            )
        if ours is not None and ours.checksum != row.checksum:
            raise StoreError(
                f"migration {row.number:04d}_{ours.name} is not the one that made this"
                " database: restore the file"
            )
    return [migration for migration in known if migration.number not in done]


async def migrate(
    connection: Connection, known: Sequence[Migration] | None = None
) -> list[Migration]:
    """Run the pending migrations inside the caller's transaction; return those that ran.

    ``known`` replaces the migrations of this version.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    await connection.execute(_TABLE)
    rows = await connection.fetch(
        "SELECT number, checksum, compatible FROM migrations ORDER BY number"
    )
    todo = pending([Applied(*row) for row in rows], shipped() if known is None else known)
    for migration in todo:
        await connection.execute(migration.text)
        await connection.execute(
            "INSERT INTO migrations (number, name, checksum, compatible) VALUES ($1, $2, $3, $4)",
            *(migration.number, migration.name, migration.checksum, migration.compatible),
        )
    return todo
