"""Decisions, verdicts and reports as people see them; each test compares the complete text."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from midstreamer.console import decision_tables
from midstreamer.domain.decision import Direction, Reason
from midstreamer.domain.match import Matches
from midstreamer.domain.specification import Specification, Transform
from midstreamer.market import report
from midstreamer.market.judgement_values import Figure
from midstreamer.market.replay_tally import Tally
from midstreamer.protocol.frames import SeriesSummary, Surveyed
from tests.support.client_builders import DAY, a_decision, a_verdict
from tests.unit.market.test_report import a_part, a_report

PLAIN = Specification("load", window=8, transform=Transform.IDENTITY, coverage=0.8)


def drawn(what: RenderableType, width: int = 140) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(what)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_silence_on_one_line() -> None:
    line = decision_tables.decision_line(a_decision(), began=lambda series, position: 10 * DAY)
    assert line.plain == (
        "1970-01-31 AAPL  P(rise) 0.60  in 5: -2.0 % … +3.0 % (90%)  like XOM"
        " 1970-01-11…1970-01-21, distance 3.21  abstained: not licensed: no evidence yet that"
        " precision would hold"
    )


def test_a_signal_on_one_line() -> None:
    decision = a_decision(direction=Direction.SHORT, specification=PLAIN)
    assert decision_tables.decision_line(decision).plain == (
        "1970-01-31 AAPL  P(rise) 0.40  in 5: -0.02 … +0.03 (80%)  like XOM to 1970-01-21,"
        " distance 3.21  SHORT 60%"
    )


def test_verdicts_on_signals_and_silences() -> None:
    signal, silence = a_decision(direction=Direction.LONG), a_decision()
    right, wrong = a_verdict(signal), a_verdict(signal, change=-0.1, hit=False)
    assert decision_tables.verdict_line(signal, right).plain == (
        "1970-02-05 AAPL  verdict on LONG of 1970-01-31: +2.0 %, right, inside the interval"
    )
    assert (
        "-9.5 %, wrong, outside the interval" in decision_tables.verdict_line(signal, wrong).plain
    )
    assert decision_tables.verdict_line(silence, a_verdict(silence)).plain.endswith(
        "verdict on abstention of 1970-01-31: +2.0 %, the favoured direction, inside the interval"
    )


def test_every_reason_has_a_phrase() -> None:
    assert set(decision_tables.WHY) == set(Reason)


@pytest.mark.parametrize(
    ("change", "transform", "shown"),
    [
        (float("inf"), Transform.LOG, "∞"),
        (float("-inf"), Transform.IDENTITY, "-∞"),
        (0.0953101798, Transform.LOG, "+10.0 %"),
        (-1234.5, Transform.IDENTITY, "-1,234"),
    ],
)
def test_changes_are_shown_in_units_of_people(
    change: float, transform: Transform, shown: str
) -> None:
    assert decision_tables.change_of(change, transform) == shown


def test_a_decision_without_analogs_shows_so() -> None:
    lonely = msgspec.structs.replace(a_decision(), matches=Matches())
    assert decision_tables.nearest_of(lonely) == "no analog"


def test_a_void_verdict_shows_that_it_cannot_be_judged() -> None:
    signal = a_decision()
    void = msgspec.structs.replace(a_verdict(signal), void=True)
    line = decision_tables.verdict_line(signal, void).plain
    assert line.endswith("cannot be judged: the outcome's value cannot be compared")


def test_decisions_in_a_table_wait_for_their_verdict() -> None:
    signal, silence = a_decision(direction=Direction.LONG), a_decision()
    lines = drawn(
        decision_tables.decisions_table([(signal, a_verdict(signal)), (silence, None)]), 200
    )
    assert lines[0].split() == [
        "time", "series", "P(rise)", "forecast", "nearest", "analog", "signal", "outcome",
    ]  # fmt: skip
    assert "LONG 60%" in lines[1]
    assert lines[1].endswith("+2.0 %, right, inside the interval")
    assert "not licensed" in lines[2]
    assert lines[2].endswith("…")


def test_the_summary_of_a_part() -> None:
    lines = drawn(decision_tables.part_table(a_part(duration_s=1.5)))
    assert lines[0] == "sp500"
    rows = dict(line.split(maxsplit=1) for line in lines[1:])
    assert rows["decisions"] == "4, 1 from earlier runs, 1970-01-02 to 1970-01-05"
    assert rows["signals"] == "2 (1 LONG, 1 SHORT)"
    assert rows["abstentions"] == "2 (2 unlicensed)"
    assert rows["verdicts"] == "3, 1 pending"
    assert rows["precision"].startswith("50.0% [")
    assert rows["precision"].endswith("of 2, target 55%")
    assert rows["outages"] == "1 attempts retried"


def test_a_part_that_was_stopped_and_decided_nothing() -> None:
    empty = report.part("x", PLAIN, Tally(), duration_s=0.0, complete=False)
    text = "\n".join(drawn(decision_tables.part_table(empty)))
    assert "x (stopped before its end)" in text
    assert "no signals, target 55%" in text
    assert "none measured in this run" in text


def test_rivals_that_win_are_named() -> None:
    figure = Figure(0.6, 0.5, 0.7)
    rivals = (
        report.Rival("ridge", figure, None, figure, ("hit", "brier"), ("brier",)),
        report.Rival("majority", figure, figure, None, (), ()),
    )
    judged = report.JudgedPart("1970-01-06", 10, 2, figure, figure, None, figure, 4, rivals)
    text = "\n".join(drawn(decision_tables.part_table(a_part(judged=judged))))
    confident = "on its most confident decisions"
    better = "better than midstreamer in hit, brier clearly"
    assert f"ridge: hit 60.0% [50.0, 70.0], {confident} -; {better}" in text
    assert f"majority: hit 60.0% [50.0, 70.0], {confident} 60.0% [50.0, 70.0]" in text


def test_the_end_says_where_everything_is() -> None:
    text = "\n".join(drawn(decision_tables.summary(a_report())))
    for place in ("/state", "postgresql:///m: 104 ticks", "/logs", "/certs"):
        assert place in text


def test_series_of_a_survey() -> None:
    surveyed = Surveyed(series=(SeriesSummary("u/a", 1200, DAY, 2 * DAY, 1.25),))
    assert drawn(decision_tables.series_table(surveyed))[1].split() == [
        "u/a", "1,200", "1970-01-02", "1970-01-03", "1.25",
    ]  # fmt: skip
