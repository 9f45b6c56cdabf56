"""Migrations run forward only and once each; an edited migration is refused."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from midstreamer.domain.errors import StoreError
from midstreamer.store import migrate, queries
from midstreamer.store.migrate import Applied, Migration

ONE, TWO = Migration(1, "one", "SELECT 1"), Migration(2, "two", "SELECT 2")


class _Recorder:
    """A connection that records its statements and runs none of them."""

    def __init__(self, applied: list[Applied]) -> None:
        self.applied = applied
        self.said: list[str] = []

    async def execute(self, query: str, *args: Any) -> None:
        self.said.append(query)

    async def fetch(self, query: str, *args: Any) -> list[Applied]:
        return self.applied


async def test_what_is_missing_runs_in_order_under_a_lock() -> None:
    connection = _Recorder([Applied(1, ONE.checksum)])
    assert await migrate.migrate(connection, [ONE, TWO]) == [TWO]
    assert "advisory" in connection.said[0]
    assert connection.said[2] == TWO.text


def test_nothing_runs_twice() -> None:
    applied = [Applied(1, ONE.checksum), Applied(2, TWO.checksum)]
    assert migrate.pending(applied, [ONE, TWO]) == []


def test_an_edited_migration_is_refused() -> None:
    with pytest.raises(StoreError, match="0001_one is not the one"):
        migrate.pending([Applied(1, "another")], [ONE, TWO])


@pytest.mark.parametrize("compatible", [None, 3])
def test_a_newer_schema_without_a_mark_is_refused(compatible: int | None) -> None:
    applied = [Applied(1, ONE.checksum), Applied(2, TWO.checksum), Applied(3, "?", compatible)]
    with pytest.raises(StoreError, match="schema 3, and this version knows 2: migration 0003"):
        migrate.pending(applied, [ONE, TWO])


def test_a_newer_schema_that_is_marked_compatible_is_accepted() -> None:
    newer = Migration(3, "three", "-- compatible: 0002\nSELECT 3")
    applied = [
        Applied(migration.number, migration.checksum, migration.compatible)
        for migration in (ONE, TWO, newer)
    ]
    assert migrate.pending(applied, [ONE, TWO]) == []


def test_one_newer_migration_that_is_not_compatible_refuses_all() -> None:
    newer = [Applied(3, "?", 2), Applied(4, "?", 3)]
    with pytest.raises(StoreError, match="schema 4, and this version knows 2: migration 0004"):
        migrate.pending([Applied(1, ONE.checksum), Applied(2, TWO.checksum), *newer], [ONE, TWO])


def test_a_mark_above_its_own_number_says_no_more_than_the_number() -> None:
    assert Migration(3, "three", "-- compatible: 0009\n").compatible == 3


def test_the_shipped_numbers_have_no_hole() -> None:
    numbers = [migration.number for migration in migrate.shipped()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_query_has_a_name_of_its_own() -> None:
    folder = resources.files("midstreamer.store.queries")
    texts = [file.read_text() for file in folder.iterdir() if file.name.endswith(".sql")]
    assert sum(text.count("-- name: ") for text in texts) == len(queries.load())
