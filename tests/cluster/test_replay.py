"""How two replays are compared, without a fleet; `test_under_load` is with one."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.cluster import host, replay
from tests.support.client import a_verdict
from tests.support.store import a_decision


def test_what_was_decided_is_written_in_one_order_whatever_order_it_came_in() -> None:
    made: list[replay.Made] = [a_decision(7), a_verdict(a_decision(7)), a_decision(8)]

    written = replay.lines(made)

    assert written == replay.lines(reversed(made))
    kinds = [(json.loads(each)["kind"], json.loads(each)["time"]) for each in written]
    assert kinds == [
        ("decision", made[0].time),
        ("verdict", made[1].time),
        ("decision", made[2].time),
    ]


def test_equal_decisions_have_no_differences() -> None:
    assert replay.differences(replay.lines([a_decision(7)]), replay.lines([a_decision(7)])) == []


def test_a_last_bit_is_a_difference_and_its_field_is_named() -> None:
    made = a_decision(7)
    almost = msgspec.structs.replace(made, low=made.low + abs(made.low) * 2**-52 + 5e-324)

    told = replay.differences(replay.lines([made]), replay.lines([almost]))

    assert told == [f"decision on {made.series} at {made.time} differs in low"]


def test_what_one_file_alone_has_is_named() -> None:
    made = a_decision(7)
    lines = replay.lines([made, a_verdict(made)])

    assert replay.differences(lines[:1], lines) == [
        f"verdict on {made.series} at {made.time} is in the second file only"
    ]
    assert replay.differences(lines, lines[:1]) == [
        f"verdict on {made.series} at {made.time} is in the first file only"
    ]
    assert replay.differences(lines, lines * 2) == [
        "the order of lines differs, or a line is there twice"
    ]


@pytest.mark.parametrize("text", ["no JSON", "{}", "7", '{"kind": "x", "series": "y", "time": 1}'])
def test_what_is_no_file_of_decisions_is_refused(text: str) -> None:
    with pytest.raises(host.KitError, match="line 1, .* is no decision"):
        replay.differences([text], [])
