"""Tests of the comparison of two replays, without a fleet.

`test_load_audit_and_replay` uses a fleet.
"""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.cluster import commands_here
from tests.cluster.replay_comparison import Made, differences, lines
from tests.support.client_builders import a_verdict
from tests.support.store_builders import a_decision


def test_what_was_decided_is_written_in_one_order_whatever_order_it_came_in() -> None:
    decided: list[Made] = [a_decision(7), a_verdict(a_decision(7)), a_decision(8)]

    written = lines(decided)

    assert written == lines(reversed(decided))
    kinds = [(json.loads(each)["kind"], json.loads(each)["time"]) for each in written]
    assert kinds == [
        ("decision", decided[0].time),
        ("verdict", decided[1].time),
        ("decision", decided[2].time),
    ]


def test_equal_decisions_have_no_differences() -> None:
    assert differences(lines([a_decision(7)]), lines([a_decision(7)])) == []


def test_a_last_bit_is_a_difference_and_its_field_is_named() -> None:
    decision = a_decision(7)
    almost = msgspec.structs.replace(
        decision, low=decision.low + abs(decision.low) * 2**-52 + 5e-324
    )

    found = differences(lines([decision]), lines([almost]))

    assert found == [f"decision on {decision.series} at {decision.time} differs in low"]


def test_what_one_file_alone_has_is_named() -> None:
    decision = a_decision(7)
    both = lines([decision, a_verdict(decision)])

    assert differences(both[:1], both) == [
        f"verdict on {decision.series} at {decision.time} is in the second file only"
    ]
    assert differences(both, both[:1]) == [
        f"verdict on {decision.series} at {decision.time} is in the first file only"
    ]
    assert differences(both, both * 2) == ["the order of lines differs, or a line is repeated"]


@pytest.mark.parametrize("text", ["no JSON", "{}", "7", '{"kind": "x", "series": "y", "time": 1}'])
def test_what_is_no_file_of_decisions_is_refused(text: str) -> None:
    with pytest.raises(commands_here.KitError, match="line 1, .* is no decision"):
        differences([text], [])
