"""Migrations: forward only, each once, and never an edited one."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from midstreamer.domain.errors import StoreError
from midstreamer.store import migrate, queries
from midstreamer.store.migrate import Migration

ONE, TWO = Migration(1, "one", "SELECT 1"), Migration(2, "two", "SELECT 2")


class _Recorder:
    """A connection that only notes what it is told."""

    def __init__(self, applied: list[tuple[int, str]]) -> None:
        self.applied = applied
        self.said: list[str] = []

    async def execute(self, query: str, *args: Any) -> None:
        self.said.append(query)

    async def fetch(self, query: str, *args: Any) -> list[tuple[int, str]]:
        return self.applied


async def test_what_is_missing_runs_in_order_under_a_lock() -> None:
    connection = _Recorder([(1, ONE.checksum)])
    assert await migrate.migrate(connection, [ONE, TWO]) == [TWO]
    assert "advisory" in connection.said[0]
    assert connection.said[2] == TWO.text


def test_nothing_runs_twice() -> None:
    assert migrate.pending([(1, ONE.checksum), (2, TWO.checksum)], [ONE, TWO]) == []


def test_an_edited_migration_is_refused() -> None:
    with pytest.raises(StoreError, match="0001_one is not the one"):
        migrate.pending([(1, "another")], [ONE, TWO])


def test_a_database_of_a_newer_version_is_refused() -> None:
    with pytest.raises(StoreError, match="schema 3, and this version knows 2"):
        migrate.pending([(1, ONE.checksum), (3, "?")], [ONE, TWO])


def test_the_shipped_numbers_have_no_hole() -> None:
    numbers = [one.number for one in migrate.shipped()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_query_has_a_name_of_its_own() -> None:
    folder = resources.files("midstreamer.store.queries")
    texts = [file.read_text() for file in folder.iterdir() if file.name.endswith(".sql")]
    assert sum(text.count("-- name: ") for text in texts) == len(queries.load())
