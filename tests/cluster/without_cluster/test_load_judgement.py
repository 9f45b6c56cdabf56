"""Tests of the report on events under load."""

from __future__ import annotations

import pytest

from tests.cluster import load_judgement
from tests.cluster.load_judgement import Event, Kind, Row
from tests.load.client_reports import BadRecords, Request

DELETED = Event("delete agent-0", Kind.DELETION, 10.0, 20.0)
KILLED = Event("kill agent-0", Kind.CRASH, 30.0, 40.0)


def a_request(due_s: float, end_s: float, error: str = "", what: str = "match") -> Request:
    return Request("u1", what, due_s, end_s, error)


def test_a_limit_that_is_given_is_that_of_each_row() -> None:
    slow = [a_request(12.0, 18.0), a_request(31.0, 37.0), a_request(1.0, 7.0)]

    strict = load_judgement.rows([DELETED, KILLED], slow, 5.9)
    wide = load_judgement.rows([DELETED, KILLED], slow, 6.1)

    assert [row.held for row in strict] == [False, False, False]
    assert [row.held for row in wide] == [True, True, True]


def names_of(request: Request, *happened: Event) -> list[str]:
    return [row.name for row in load_judgement.rows(happened, [request]) if row.requests]


@pytest.mark.parametrize(
    ("due_s", "end_s", "where"),
    [
        (8.0, 9.9, [load_judgement.CALM]),
        (8.0, 10.5, [DELETED.name]),  # this request was open when the deletion began
        (12.0, 12.1, [DELETED.name]),
        (19.9, 25.0, [DELETED.name]),  # this request began during the deletion
        (20.1, 25.0, [load_judgement.CALM]),
        (19.9, 30.1, [DELETED.name, KILLED.name]),
        (1.0, 50.0, [DELETED.name, KILLED.name]),
    ],
)
def test_a_request_belongs_to_every_event_in_whose_time_it_was_open(
    due_s: float, end_s: float, where: list[str]
) -> None:
    assert names_of(a_request(due_s, end_s), KILLED, DELETED) == where


def row_of(event: Event | None, *requests: Request) -> Row:
    return Row(event, list(requests))


@pytest.mark.parametrize(
    ("event", "took_s", "held"),
    [(DELETED, 5.0, True), (DELETED, 5.1, False), (KILLED, 15.0, True), (KILLED, 15.1, False),
     (None, 5.0, True), (None, 5.1, False)],
)  # fmt: skip
def test_the_limit_is_5_s_for_a_deletion_and_15_s_for_a_crash(
    event: Event | None, took_s: float, held: bool
) -> None:
    row = row_of(event, a_request(0.0, took_s))

    assert row.held is held


def test_a_failed_request_breaks_the_promise_however_fast_it_failed() -> None:
    failed = a_request(12.0, 12.1, "unavailable: nobody")

    row = row_of(DELETED, a_request(11.0, 11.1), failed)

    assert row.broken() == [
        "delete agent-0: 1 requests failed; the first was match, after 0.1 s with"
        " unavailable: nobody"
    ]


def test_slow_requests_are_counted_and_the_slowest_is_named() -> None:
    row = row_of(DELETED, a_request(11.0, 17.0), a_request(11.0, 18.0), a_request(11.0, 12.0))

    assert row.broken() == ["delete agent-0: 2 requests took over 5 s, the slowest 7.00 s"]


def test_an_event_without_requests_or_with_a_complaint_shows_nothing() -> None:
    late = Event("kill x", Kind.CRASH, 1.0, 2.0, "not recovered after 120 s")

    assert row_of(late, a_request(1.0, 2.0)).broken() == ["kill x: not recovered after 120 s"]
    assert row_of(DELETED).broken() == [
        "delete agent-0: no request was open meanwhile, so nothing was checked"
    ]
    assert row_of(None).broken() == []


def test_a_run_without_requests_shows_nothing() -> None:
    assert load_judgement.broken(load_judgement.rows([], []), 0) == ["no request was made"]
    assert load_judgement.broken(load_judgement.rows([], [a_request(1.0, 2.0)]), 1) == []


def a_table() -> list[Row]:
    requests = [
        a_request(1.0, 1.1),
        a_request(11.0, 11.25),
        a_request(11.0, 11.5, what="append"),
        a_request(31.0, 51.0, "deadline_exceeded: no answer"),
    ]
    return load_judgement.rows([DELETED, KILLED], requests)


def test_the_table_is_told_in_markdown() -> None:
    assert load_judgement.markdown(a_table()).splitlines() == [
        "| event | kind | lasted s | requests | failed | slowest append s | slowest match s"
        " | limit s | held |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
        "| nothing happens |  |  | 1 | 0 | 0.00 | 0.10 | 5 | yes |",
        "| delete agent-0 | deletion | 10.0 | 2 | 0 | 0.50 | 0.25 | 5 | yes |",
        "| kill agent-0 | crash | 10.0 | 1 | 1 | 0.00 | 20.00 | 15 | NO |",
    ]


def test_the_table_is_told_in_columns_of_one_width() -> None:
    lines = load_judgement.plain(a_table()).splitlines()

    assert len(lines) == 4
    assert {line.index("deletion") for line in lines if "deletion" in line} == {
        lines[0].index("kind")
    }
    assert {len(line) for line in lines} == {len(lines[0])}


def test_a_file_gives_back_the_events() -> None:
    lines = [load_judgement.line(DELETED), load_judgement.line(KILLED)]

    assert load_judgement.read("events.jsonl", lines) == [DELETED, KILLED]


@pytest.mark.parametrize(
    "text",
    ["no JSON\n", "7\n", "{}\n", '{"name": "x", "kind": "wish", "from_s": 1, "to_s": 2}\n',
     '{"name": "x", "kind": "crash", "from_s": 3, "to_s": 2}\n'],
)  # fmt: skip
def test_a_line_that_is_no_event_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(BadRecords, match=r"events\.jsonl:1: .* is no event"):
        load_judgement.read("events.jsonl", [text])
