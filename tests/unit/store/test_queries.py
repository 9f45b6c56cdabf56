"""Each query has named arguments; `row_conversion` makes a column for each, with the same name."""

from __future__ import annotations

import re

import pytest

from midstreamer.store import queries, row_conversion
from midstreamer.store.queries import Queries
from midstreamer.store.store_interface import Effects

QUERIES = queries.load()
COLUMNS = {
    "put_series": row_conversion.series([], {}),
    "add_points": row_conversion.points([]),
    "add_specifications": row_conversion.specifications([]),
    "add_decisions": row_conversion.decisions([]),
    "add_verdicts": row_conversion.verdicts([]),
    "add_events": row_conversion.events([]),
    "put_states": row_conversion.states(Effects()),
    "add_snapshots": row_conversion.snapshots([]),
    "put_marks": row_conversion.marks([]),
    "add_feed": row_conversion.feed([], 0),
    "add_usage": row_conversion.identities({}),
}


def test_names_are_numbered_in_the_order_of_their_first_use() -> None:
    found = Queries({"find": "SELECT $time::bigint, $series::text WHERE $time > 0"})
    assert found["find"] == "SELECT $1::bigint, $2::text WHERE $1 > 0"
    assert found.bind("find", {"series": "a", "time": 5, "more": 0}) == [5, "a"]


def test_a_missing_argument_is_an_error() -> None:
    with pytest.raises(KeyError, match="series"):
        Queries({"find": "SELECT $series"}).bind("find", {"time": 5})


@pytest.mark.parametrize("name", COLUMNS)
def test_a_query_asks_for_exactly_the_columns_that_its_rows_have(name: str) -> None:
    assert sorted(QUERIES.arguments[name]) == sorted(COLUMNS[name])


@pytest.mark.parametrize("name", sorted(set(COLUMNS) - {"add_specifications", "put_states"}))
def test_arguments_stand_in_the_order_of_the_table_columns(name: str) -> None:
    found = re.search(r"INSERT INTO \w+(?: AS \w+)? \(([^)]*)\)", QUERIES[name])
    assert found
    assert tuple(re.split(r",\s*", found[1])) == QUERIES.arguments[name]


def test_every_query_that_names_arguments_is_held_here() -> None:
    assert {name for name, names in QUERIES.arguments.items() if names} == set(COLUMNS)
