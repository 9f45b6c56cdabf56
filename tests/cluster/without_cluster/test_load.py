"""Tests of the load and its report, without a fleet; `test_load_audit_and_replay` uses a fleet."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.cluster import disturbance_report, load, load_judgement
from tests.cluster.load import Meter
from tests.cluster.load_judgement import Event, Kind
from tests.load import client_requests

GIVEN = ["--addresses", "a:1, b:2,", "--certs", "certs", "--write", "load.jsonl"]


def ended(took_s: float, error: str = "") -> dict[str, object]:
    return {"what": "match", "due_s": 1.0, "end_s": 1.0 + took_s, "error": error}


def test_a_second_tells_what_ended_in_it_and_the_next_begins_anew() -> None:
    meter = Meter(100.0, open=3)
    for said in (ended(0.1), ended(0.75, "unavailable: gone")):
        meter.ended(said)

    first, second = meter.second(101.0), meter.second(102.0)

    assert (first["second"], first["requests"], first["failed"]) == (1, 2, 1)
    assert (first["slowest_s"], first["open"]) == (0.75, 3)
    assert (second["second"], second["requests"], second["slowest_s"]) == (2, 0, 0.0)
    assert second["failed_so_far"] == 1


def test_a_load_asks_as_the_issue_says_and_under_a_new_name_each_time() -> None:
    one, other = load.parsed(GIVEN), load.parsed(GIVEN)

    assert (one.matches_per_s, one.appends_per_s, one.deadline_s) == (50.0, 20.0, 30.0)
    assert one.addresses == ["a:1", "b:2"]
    assert one.name != other.name


def test_no_load_goes_on_for_longer_than_its_series_have_values() -> None:
    most_s = load.parsed(GIVEN).for_s

    ticks = (
        client_requests.HISTORY
        + most_s * load.APPENDS_PER_S * client_requests.TICKS / client_requests.SERIES
    )

    assert most_s > 3600
    assert ticks < client_requests.POINTS_MAX


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--for-s", "99999"], "the values last for"),
        (["--for-s", "-1"], "above 0"),
        (["--matches-per-s", "many"], "'many' is no number"),
        (["--matches-per-s", "1001"], "give 0 to 1000 a second"),
        (["--matches-per-s", "0", "--appends-per-s", "0"], "no request would be sent"),
        (["--addresses", " , "], "names no address"),
    ],
)
def test_what_cannot_be_driven_is_refused_in_words(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load.parsed(GIVEN + words)

    assert told in capsys.readouterr().err


# --- the report


def files(folder: Path, *happened: Event, error: str = "") -> list[str]:
    """Write the files of a load and of its disturbances; return arguments for the report.

    The load has one request, which is open from second 11 to second 12.
    """
    request = {"what": "match", "due_s": 11.0, "end_s": 12.0, "error": error}
    (folder / "load.jsonl").write_text(json.dumps(request) + "\n")
    (folder / "events.jsonl").write_text("".join(load_judgement.line(event) for event in happened))
    return ["--load", str(folder / "load.jsonl"), "--events", str(folder / "events.jsonl")]


def test_a_report_writes_the_table_and_tells_what_did_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = files(tmp_path, Event("kill x", Kind.CRASH, 10.0, 20.0), error="unavailable: gone")

    broken = disturbance_report.judged(
        disturbance_report.parsed([*words, "--markdown", str(tmp_path / "table.md")])
    )

    assert [each.partition(":")[0] for each in broken] == ["kill x"]
    assert "| kill x | crash | 10.0 | 1 | 1 |" in (tmp_path / "table.md").read_text()
    assert "kill x" in capsys.readouterr().out


def test_a_report_of_what_held_has_nothing_to_tell(tmp_path: Path) -> None:
    words = files(tmp_path, Event("kill x", Kind.CRASH, 10.0, 20.0))

    assert disturbance_report.judged(disturbance_report.parsed(words)) == []


@pytest.mark.parametrize("words", [["--address", "127.0.0.1"], ["--faults"]])
def test_what_is_for_a_store_needs_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        disturbance_report.parsed(["--load", "x", *words])

    assert "need --dsn, which is not given" in capsys.readouterr().err


def test_of_many_faults_some_are_told_and_the_others_counted() -> None:
    assert disturbance_report.some("lost", list("abcdefg"))[-2:] == ["lost: e", "lost: 2 more"]
    assert disturbance_report.some("lost", list("abcde"))[-1] == "lost: e"
    assert disturbance_report.some("lost", []) == []


async def test_a_host_of_a_dsn_is_found_where_it_was_said_to_be_and_no_other_is() -> None:
    disturbance_report.lead_to("192.0.2.7", ["postgres.nowhere.invalid"])
    loop = asyncio.get_running_loop()

    found = await loop.getaddrinfo("postgres.nowhere.invalid", 5432)
    other = await loop.getaddrinfo("127.0.0.1", 5432)

    assert {each[4] for each in found} == {("192.0.2.7", 5432)}
    assert {each[4] for each in other} == {("127.0.0.1", 5432)}
