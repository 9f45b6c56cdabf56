"""Brings a database to the present schema: numbered .sql files, forward only, each once.

A runner of our own instead of alembic: alembic brings SQLAlchemy and mako for models we do not
have, and its strength (down-grades, generated revisions, branches) is what we want to be without.
Here a migration is a file of SQL that a reviewer reads as it runs.

All of it happens in one transaction under an advisory lock, so two processes that start at once
migrate once, and a migration that fails leaves nothing.  The checksum of each file is kept: a
file that was edited after it ran is refused.

A database may be newer than the process.  While a fleet is upgraded, processes of two versions
use one database, so a migration says in its text which older schema its readers and writers may
still believe in, as ``-- compatible: 0003``.  A process that knows at least that schema goes on
beside it; an older one is refused.  A migration without the line is compatible with no older
schema.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple, Protocol

from midstreamer.domain.errors import StoreError

_LOCK = 0x6D696473  # "mids"
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
    """One step of the schema."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """What the file was when it ran."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    @property
    def compatible(self) -> int:
        """The oldest schema that a process may know and still use a database that has this one."""
        marked = _COMPATIBLE.search(self.text)
        return min(int(marked[1]), self.number) if marked else self.number


class Applied(NamedTuple):
    """A migration that a database says has run."""

    number: int
    checksum: str
    compatible: int | None = None  # None: it ran before this was kept

    def refuses(self, schema: int) -> bool:
        """Whether a process that knows ``schema`` and none above must stay away."""
        return schema < (self.number if self.compatible is None else self.compatible)


class Connection(Protocol):
    """As much of an asyncpg connection as is used here."""

    async def execute(self, query: str, *args: Any) -> Any:
        """Run one or several statements."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]:
        """Run one statement and return its rows."""


def shipped() -> list[Migration]:
    """The migrations of this version, by number."""
    return sorted(
        Migration(int(match[1]), match[2], file.read_text())
        for file in resources.files("midstreamer.store.migrations").iterdir()
        if (match := _NAME.match(file.name))
    )


def pending(applied: Iterable[Applied], known: Sequence[Migration]) -> list[Migration]:
    """What is still to be run; StoreError when the database is not of this line."""
    by_number = {one.number: one for one in known}
    newest = max(by_number, default=0)
    done = {one.number: one for one in applied}
    for one in done.values():
        ours = by_number.get(one.number)
        if ours is None and one.refuses(newest):
            raise StoreError(
                f"the database has schema {max(done)}, and this version knows {newest}: migration"
                f" {one.number:04d} is not marked as compatible with that. Run the version that"
                " made it, or a newer one"
            )
        if ours is not None and ours.checksum != one.checksum:
            raise StoreError(
                f"migration {one.number:04d}_{ours.name} is not the one that made this"
                " database: restore the file"
            )
    return [one for one in known if one.number not in done]


async def migrate(
    connection: Connection, known: Sequence[Migration] | None = None
) -> list[Migration]:
    """Run what is pending, inside the caller's transaction; returns what was run."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    await connection.execute(_TABLE)
    rows = await connection.fetch(
        "SELECT number, checksum, compatible FROM migrations ORDER BY number"
    )
    todo = pending([Applied(*row) for row in rows], shipped() if known is None else known)
    for one in todo:
        await connection.execute(one.text)
        await connection.execute(
            "INSERT INTO migrations (number, name, checksum, compatible) VALUES ($1, $2, $3, $4)",
            *(one.number, one.name, one.checksum, one.compatible),
        )
    return todo
