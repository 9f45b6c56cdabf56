"""The findings of a check of the database: rows that contradict other rows or themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from midstreamer.protocol.frames import Joined, Learned, Points, Skipped
from midstreamer.store import migrate, row_checks, row_conversion
from midstreamer.store.row_checks import Finding, Ticks
from tests.support.store_builders import SPECIFICATION, STEP, a_column, value_at


def a_series_row(**changes: Any) -> dict[str, Any]:
    columns = {
        "first_there": 0,
        "count_there": 3,
        "last_there": 2 * STEP,
        "value_there": value_at(2),
    }
    row = {"name": "test/A", "count": 3, "first_time": 0, "last_time": 2 * STEP}
    return row | {"last_value": value_at(2)} | columns | changes


def a_specification_row(**changes: Any) -> dict[str, Any]:
    specification = SPECIFICATION
    return {
        "digest": specification.digest,
        "stream": specification.stream,
        "body": row_conversion.json(specification),
    } | changes


def of_points(change: Points, stored: Ticks | None) -> list[Finding]:
    return list(row_checks.of_change(7, change, stored, {}))


def ticks(start: int, stop: int, *, shift: float = 0.0) -> Ticks:
    column = a_column(start, stop, shift=shift)
    return Ticks(column.times_array(), column.values_array())


def test_a_finding_names_table_key_column_and_both_values() -> None:
    (found,) = row_checks.of_series(a_series_row(count=4))
    assert str(found) == "series test/A: count is 4, derived 3 (points)"


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"first_time": 1}, "first_time"),
        ({"last_time": 2}, "last_time"),
        ({"last_value": 0.0}, "last_value"),
        ({"name": "test/../A"}, "name"),
        ({"name": "A"}, "name"),
    ],
)
def test_a_series_row_that_its_points_do_not_give_is_found(
    changes: dict[str, Any], column: str
) -> None:
    assert [finding.column for finding in row_checks.of_series(a_series_row(**changes))] == [column]


def test_a_series_as_its_points_are_is_not_found() -> None:
    assert list(row_checks.of_series(a_series_row())) == []


@pytest.mark.parametrize("body", ["{}", "[]", '{"universe": "u", "unheard_of": 1}'])
def test_a_specification_that_cannot_be_read_is_found_and_not_used(body: str) -> None:
    read, found = row_checks.of_specification(a_specification_row(body=body))
    assert read is None
    assert [finding.column for finding in found] == ["body"]


def test_a_specification_that_is_another_has_another_digest_and_stream() -> None:
    other = row_conversion.json(msgspec.structs.replace(SPECIFICATION, band=0))
    _, found = row_checks.of_specification(a_specification_row(body=other))
    assert [finding.column for finding in found] == ["digest", "stream"]
    assert row_checks.of_specification(a_specification_row()) == (SPECIFICATION, [])


def test_points_in_the_feed_that_differ_from_stored_ones_are_found_at_the_first_place() -> None:
    change = Points(3, a_column(3, 6))
    assert of_points(change, ticks(3, 6)) == []
    (found,) = of_points(change, ticks(3, 6, shift=0.5))
    assert (found.table, found.key, found.column) == ("points", "test/A/3", "value")
    assert found.derived.endswith("(feed 7)")


def test_points_in_the_feed_that_are_not_stored_are_found() -> None:
    (found,) = of_points(Points(3, a_column(3, 6)), None)
    assert found.derived == "no such points"


def test_a_state_in_the_feed_beyond_its_stream_is_a_finding() -> None:
    known = {"u@1": 5}
    assert list(row_checks.of_change(7, Learned("u@1", 5, b""), None, known)) == []
    for change in (Learned("u@1", 6, b""), Learned("u@1", 0, b""), Learned("u@2", 1, b"")):
        (found,) = row_checks.of_change(7, change, None, known)
        assert found.column == "body.version"


def test_a_change_of_a_kind_that_is_not_known_is_found_by_its_name() -> None:
    (found,) = row_checks.of_change(7, Skipped("Split"), None, {})
    assert "Split" in str(found)


def test_members_in_the_feed_are_not_compared() -> None:
    assert list(row_checks.of_change(7, Joined(()), None, {})) == []


def test_states_of_one_length_differ_at_a_place() -> None:
    (found,) = row_checks.of_version("states", "u@1", b"abcd", b"abXX")
    assert found.stored == "other in 2 B, the first at 2"
    (found,) = row_checks.of_version("states", "u@1", b"abc", b"abcd")
    assert found.stored == "3 B instead of 4 B"


def test_a_migration_with_another_name_is_found() -> None:
    known = {migration.number: migration for migration in migrate.shipped()}
    first = known[1]
    row = {"number": 1, "name": "other", "checksum": first.checksum, "compatible": None}
    assert [finding.derived for finding in row_checks.of_migration(row, known)] == [
        f"{first.name} (file)"
    ]
    assert [
        finding.column for finding in row_checks.of_migration(row | {"number": 9999}, known)
    ] == ["number"]


def test_a_newer_migration_that_is_marked_compatible_is_no_finding() -> None:
    known = {migration.number: migration for migration in migrate.shipped()}
    row = {"number": 9999, "name": "later", "checksum": "?", "compatible": max(known)}
    assert list(row_checks.of_migration(row, known)) == []
    assert list(row_checks.of_migration(row | {"compatible": max(known) + 1}, known))


def test_another_mark_than_the_files_is_found() -> None:
    known = {migration.number: migration for migration in migrate.shipped()}
    newest = known[max(known)]
    row = {"number": newest.number, "name": newest.name, "checksum": newest.checksum}
    found = list(row_checks.of_migration(row | {"compatible": 0}, known))
    assert [(finding.column, finding.stored) for finding in found] == [("compatible", "0")]


def test_a_hole_in_the_schemas_history_is_found() -> None:
    assert [finding.key for finding in row_checks.of_missing_migrations([1, 4])] == ["2", "3"]
    assert list(row_checks.of_missing_migrations([1, 2, 3])) == []
