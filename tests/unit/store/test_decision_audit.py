"""The database check derives decisions and verdicts again, and so finds any changed byte."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as any_of

from midstreamer import reasoning
from midstreamer.cli import db_check_command
from midstreamer.domain.decision import Decision
from midstreamer.domain.verdict import Verdict
from midstreamer.market.backtest import Points, Walk
from midstreamer.market.match_distances import between
from midstreamer.store import decision_audit, row_conversion
from midstreamer.store.row_checks import Finding, Ticks, same, shown
from tests.support import reasoning_builders as build

RULES = db_check_command.rules()
START, LENGTH = 200, 220


class Told(NamedTuple):
    """A decision with the two series that it was made from, and its verdict."""

    points: dict[str, Points]
    decision: Decision
    verdict: Verdict


@functools.cache
def a_told() -> Told:
    points = {f"u/{name}": build.a_season(LENGTH, seed=seed) for seed, name in enumerate("ab")}
    walk = Walk(points, build.a_specification(), start=START * build.HOUR)
    decision = next(event for event in walk if isinstance(event, Decision))
    verdict = next(
        event for event in walk
        if isinstance(event, Verdict) and event.experience_id == decision.experience_id
    )  # fmt: skip
    return Told(points, decision, verdict)


def ticks_of(decision: Decision, *, changes: dict[int, float] | None = None) -> dict[Any, Any]:
    """Return the ticks from which a decision and its verdict are derived again.

    ``changes`` maps positions in the decision's series to the values that the ticks shall have.
    """
    ticks: dict[Any, Ticks | None] = {}
    for name, start, stop in [*decision_audit.runs_of(decision), decision_audit.due_of(decision)]:
        points = a_told().points.get(name)
        ticks[name, start, stop] = None
        if points is not None and 0 <= start < stop <= LENGTH:
            values = points.values.copy()
            if name == decision.series:
                values[list(changes or {})] = list((changes or {}).values())
            ticks[name, start, stop] = Ticks(points.times[start:stop], values[start:stop])
    return ticks


def row_of(decision: Decision, body: bytes | None = None) -> dict[str, Any]:
    row = {name: column[0] for name, column in row_conversion.decisions([decision]).items()}
    return row if body is None else row | {"body": body}


def found_in(row: dict[str, Any]) -> list[Finding]:
    """Check the row of a decision; the stream had learned nothing before this decision."""
    decided, found = decision_audit.decision_of(row)
    if decided is None:
        return found
    found += decision_audit.of_ticks(decided, ticks_of(decided), between)
    state = reasoning.initial(decided.specification)
    return [*found, *decision_audit.decided_again(RULES, decided, state, 2 * LENGTH)]


def test_a_decision_as_it_was_made_contradicts_nothing() -> None:
    story = a_told()
    assert len(story.decision.matches) == 10
    assert found_in(row_of(story.decision)) == []


def test_every_byte_of_a_decision_that_is_changed_shows() -> None:
    decision = a_told().decision
    body = row_of(decision)["body"]
    hidden = []
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        hidden += [] if found_in(row_of(decision, changed)) else [at]
    assert hidden == []


def test_every_byte_of_a_verdict_that_is_changed_shows() -> None:
    story = a_told()
    row = {name: column[0] for name, column in row_conversion.verdicts([story.verdict]).items()}
    hidden = []
    for at in range(len(row["body"])):
        body = row["body"][:at] + bytes([row["body"][at] ^ 1]) + row["body"][at + 1 :]
        read, found = decision_audit.verdict_of(row | {"body": body})
        if read is not None:
            ticks = ticks_of(story.decision)
            found += decision_audit.judged_again(RULES, read, story.decision, ticks)
        hidden += [] if found else [at]
    assert hidden == []


@pytest.mark.parametrize("back", range(8))
def test_a_tick_of_the_window_that_is_changed_shows(back: int) -> None:
    decision = a_told().decision
    at = decision.index - back
    changes = {at: math.nextafter(a_told().points[decision.series].values[at], math.inf)}
    (found, *_) = decision_audit.of_ticks(decision, ticks_of(decision, changes=changes), between)
    assert found.column == f"body.window[{7 - back}]"
    assert f"{decision.series}/{at}" in found.derived


def test_the_tick_that_settles_is_the_verdict_s() -> None:
    story = a_told()
    changes = {story.decision.due_index: story.decision.last - 1.0}
    ticks = ticks_of(story.decision, changes=changes)
    found = [
        finding.column
        for finding in decision_audit.judged_again(RULES, story.verdict, story.decision, ticks)
    ]
    assert "body.change" in found
    assert "body.outcome" in found


def test_a_match_that_was_not_known_yet_shows() -> None:
    decision = msgspec.structs.replace(a_told().decision, time=100 * build.HOUR)
    found = decision_audit.of_ticks(decision, ticks_of(decision), between)
    assert any("known by" in finding.derived for finding in found)


def test_matches_that_are_not_stored_show() -> None:
    decision = a_told().decision
    missing = dict.fromkeys(ticks_of(decision))
    columns = [finding.column for finding in decision_audit.of_ticks(decision, missing, between)]
    assert columns == ["body.index", "body.matches.start"]


@given(any_of.integers(0, 5_000), any_of.integers(0, 5_000))
def test_any_counts_of_windows_are_found_again_by_their_share(ups: int, downs: int) -> None:
    share = (ups + 1.0) / (ups + downs + 2.0)
    found = decision_audit.counts_of(share, ups + downs)
    assert found is not None
    assert (found[0] + 1.0) / (found[1] + 2.0) == share


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_the_bounds_of_climatology_need_no_windows(share: float) -> None:
    assert decision_audit.counts_of(share, 0) is not None


@pytest.mark.parametrize("share", [0.0, 1.0, math.nan, math.inf, -0.5, 1 / 3 + 1e-12])
def test_a_share_of_no_windows_is_none(share: float) -> None:
    assert decision_audit.counts_of(share, 1_000) is None


def test_floats_are_the_same_to_the_bit() -> None:
    assert same(math.nan, math.nan)
    assert not same(0.0, -0.0)
    assert not same((1.0, 0.0), (1.0, -0.0))
    assert not same(1.0, math.nextafter(1.0, 2.0))


def test_long_values_are_shown_cut() -> None:
    assert len(shown("x" * 10_000)) < 100
    assert shown(np.zeros(8).tobytes()).endswith("(64 B)")
    assert shown(None) == "nothing"
