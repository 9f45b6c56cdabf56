"""The report of a replay: the sums and shares that it computes from a `Tally`, and its JSON."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.decision import Direction
from midstreamer.domain.specification import Specification
from midstreamer.market import report
from midstreamer.market.judgement_values import Figure, Judgement, RivalJudgement, Threshold
from midstreamer.market.replay import Loading, Resumed, Stepped, Waiting
from midstreamer.market.replay_tally import Latencies, Tally
from tests.support.client_builders import DAY, a_decision, a_verdict

SPECIFICATION = Specification("sp500", window=8)


def a_tally() -> Tally:
    """Return a tally of a right signal, a wrong signal, an abstention and an open decision."""
    tally = Tally()
    right = a_decision(time=1 * DAY, direction=Direction.LONG)
    wrong = a_decision(time=2 * DAY, direction=Direction.SHORT)
    silent, last = a_decision(time=3 * DAY), a_decision(time=4 * DAY)
    tally.take(Loading(100, 100, 90, 10))
    tally.take(Waiting("overloaded", "full", 0.1))
    tally.take(Resumed(1, 4, 1, (right,), ()))
    tally.take(Stepped(2 * DAY, 2, 4, 1, (wrong,), (a_verdict(right),), 0.002, 0.02))
    tally.take(Stepped(3 * DAY, 3, 4, 1, (silent,), (a_verdict(right),), 0.002, 0.03))
    verdicts = (a_verdict(wrong, hit=False), a_verdict(silent, change=0.5))
    tally.take(Stepped(4 * DAY, 4, 4, 1, (last,), verdicts, 0.002, 0.04))
    return tally


def a_part(**changes: object) -> report.Part:
    part = report.part("sp500", SPECIFICATION, a_tally(), duration_s=1.5, complete=True)
    return msgspec.structs.replace(part, **changes)


def a_report(*parts: report.Part) -> report.Report:
    return report.Report(
        midstreamer="0.1.0",
        engine="auto",
        agents=3,
        interrupted=False,
        duration_s=2.0,
        parts=parts or (a_part(),),
        kept=report.Kept("/state", "postgresql:///m", "/logs", "/certs", ticks=104),
    )


def test_each_decision_and_each_verdict_counts_once() -> None:
    part = a_part()
    assert (part.history_ticks, part.ticks, part.steps, part.outages) == (100, 4, 4, 1)
    assert (part.decisions, part.decisions_repeated) == (4, 1)
    assert part.signals == {"LONG": 1, "SHORT": 1}
    assert part.abstentions == {"unlicensed": 2}
    assert (part.verdicts, part.pending) == (3, 1)


def test_shares_are_of_what_they_say() -> None:
    part = a_part()
    assert part.precision is not None
    assert (part.precision.value, part.precision.count) == (0.5, 2)
    assert part.coverage is not None
    assert part.coverage.value == pytest.approx(2 / 3)
    assert part.brier_skill == pytest.approx(1 - 0.16 / 0.25)
    assert part.match is not None
    assert part.match.p50_ms == pytest.approx(30, rel=0.03)


def test_nothing_decided_gives_no_shares() -> None:
    part = report.part("x", SPECIFICATION, Tally(), duration_s=0.0, complete=False)
    published = (part.precision, part.hit, part.coverage, part.brier, part.match)
    assert published == (None,) * 5
    assert (part.first, part.last) == (None, None)


def test_an_infinite_interval_proves_nothing() -> None:
    tally = Tally()
    decision = msgspec.structs.replace(a_decision(), high=float("inf"))
    tally.take(Stepped(DAY, 1, 1, 1, (decision,), (a_verdict(decision),), 0.1, 0.1))
    part = report.part("x", SPECIFICATION, tally, duration_s=0.0, complete=True)
    assert part.coverage is None
    assert part.hit is not None


def test_the_json_reads_back_and_keeps_to_its_schema() -> None:
    written = a_report()
    data = report.encode(written)
    assert msgspec.json.decode(data, type=report.Report) == written
    schema = json.loads(report.schema())
    described = schema["$defs"]["Report"]
    assert set(json.loads(data)) == set(described["properties"])
    assert described["additionalProperties"] is False


def test_an_unknown_field_in_a_report_is_refused() -> None:
    fields = json.loads(report.encode(a_report())) | {"profit": 1.0}
    with pytest.raises(msgspec.ValidationError, match="profit"):
        msgspec.json.decode(json.dumps(fields), type=report.Report)


def test_overlapping_decisions_widen_the_interval() -> None:
    dice = np.random.default_rng(1)
    steps = np.repeat(dice.random(40) < 0.6, 20)
    together = report.share_of(list(range(800)), steps.tolist(), horizon=10)
    alone = report.share_of(list(range(800)), dice.permutation(steps).tolist(), horizon=10)
    assert together is not None
    assert alone is not None
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_share_that_never_failed_is_not_certain() -> None:
    share = report.share_of(list(range(100)), [True] * 100, horizon=5)
    assert share is not None
    assert share.value == share.high == 1.0
    assert share.low < 0.7


@given(st.floats(0, 1), st.floats(1, 1e6))
def test_wilson_holds_the_share_and_stays_within_bounds(share: float, trials: float) -> None:
    low, high = report.wilson(share, trials)
    assert 0.0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1.0


@given(st.lists(st.floats(1e-5, 100), min_size=1), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_of_latencies_are_within_their_buckets(taken: list[float], share: float) -> None:
    latencies = Latencies()
    for duration_s in taken:
        latencies.add(duration_s)
    exact = sorted(taken)[max(0, int(np.ceil(share * len(taken) - 1e-9)) - 1)]
    assert latencies.quantile_s(share) == pytest.approx(exact, rel=0.025)


def test_a_judgement_is_published_with_its_rivals() -> None:
    figure = Figure(0.6, 0.5, 0.7)
    rival = RivalJudgement(
        name="ridge", hit=figure, hit_on_emitted=None, precision_same_count=None,
        brier_skill=figure, ahead_by={"hit": figure}, wins=("hit",), wins_clearly=(),
    )  # fmt: skip
    judged = report.judged_of(
        Judgement(
            universe="sp500", stream="s", after=5 * DAY, decisions=10, emitted=2, target=0.6,
            precision=figure, base_rate=0.5, hit=figure, coverage_target=0.8, coverage=None,
            winkler=None, brier=0.2, brier_climatology=0.25, brier_skill=figure,
            fixed_threshold=Threshold(4, 0.7, 0.5), rivals=(rival,), winners=("ridge",),
        )
    )  # fmt: skip
    assert (judged.after, judged.fixed_threshold_emitted) == ("1970-01-06", 4)
    assert judged.rivals[0].name == "ridge"
    assert judged.rivals[0].wins == ("hit",)


def test_a_void_verdict_ends_a_decision_and_is_counted_nowhere() -> None:
    tally, decision = Tally(), a_decision(direction=Direction.LONG)
    tally.take(Stepped(1, 1, 1, 1, (decision,), (), 0.1, 0.1))
    tally.judge(msgspec.structs.replace(a_verdict(decision), void=True, hit=False))
    assert (tally.pending, tally.settled, tally.judged) == ({}, [], 0)
