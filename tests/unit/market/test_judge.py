"""The judgement of decisions: its figures have intervals, and it names each better baseline."""

import io

import msgspec
import numpy as np
import pytest
from rich.console import Console

from midstreamer.console import judgements
from midstreamer.domain.decision import Decision, Direction
from midstreamer.domain.errors import BadInput
from midstreamer.domain.verdict import Verdict
from midstreamer.market import backtest, bootstrap, judge
from midstreamer.market.backtest import Walk
from midstreamer.market.judgement_values import Judgement, Threshold
from tests.support import reasoning_builders as make

SPECIFICATION = make.a_specification(window=24, horizon=4, neighbours=10, grid=1, target=0.7)
UNIVERSE = {"u/a": make.a_season(900)}


@pytest.fixture(scope="module")
def record() -> backtest.Record:
    return backtest.record(Walk(UNIVERSE, SPECIFICATION))


def test_the_judgement_is_of_the_second_half_and_fit_for_json(record: backtest.Record) -> None:
    judgement = judge.judge_decisions(record.decisions, record.verdicts, UNIVERSE, seasons=(24,))
    settled = len(record.verdicts)
    assert judgement.decisions == settled - settled // 2
    names = [rival.name for rival in judgement.rivals]
    assert names == [
        "majority", "momentum", "euclid vote", "euclid margin", "season 24", "ridge",
    ]  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(judgement), type=Judgement) == judgement


def test_the_figures_are_what_counting_gives(record: backtest.Record) -> None:
    begin = record.decisions[500].time
    judgement = judge.judge_decisions(record.decisions, record.verdicts, after=begin)
    verdict = {each.experience_id: each for each in record.verdicts}
    pairs = [
        (d, verdict[d.experience_id])
        for d in record.decisions
        if d.time >= begin and d.experience_id in verdict
    ]
    hits = [v.hit for d, v in pairs if d.emitted]
    assert judgement.precision
    assert judgement.coverage
    assert judgement.brier_skill
    assert judgement.emitted == len(hits)
    assert judgement.precision.value == pytest.approx(np.mean(hits))
    assert judgement.coverage.value == pytest.approx(np.mean([v.covered for _, v in pairs]))
    loss = np.sum([v.brier for _, v in pairs]) / np.sum([v.brier_arms[0] for _, v in pairs])
    assert judgement.brier_skill.value == pytest.approx(1.0 - loss)
    assert judgement.precision.low <= judgement.precision.value <= judgement.precision.high
    assert (judgement.rivals, judgement.winners) == ((), ())


def test_arrival_order_of_decisions_and_verdicts_does_not_matter(record: backtest.Record) -> None:
    turned = judge.judge_decisions(record.decisions[::-1], record.verdicts[::-1])
    assert turned == judge.judge_decisions(record.decisions, record.verdicts)


def made_up(confidences: list[float], hits: list[bool]) -> tuple[list[Decision], list[Verdict]]:
    record = backtest.record(Walk(UNIVERSE, SPECIFICATION, stop=200 * make.HOUR))
    decisions = [
        msgspec.structs.replace(d, confidence=c, direction=Direction.LONG, reason=None)
        for d, c in zip(record.decisions, confidences, strict=False)
    ]
    verdicts = [
        msgspec.structs.replace(v, hit=h) for v, h in zip(record.verdicts, hits, strict=False)
    ]
    return decisions, verdicts


def test_the_best_threshold_in_hindsight_takes_whole_ties() -> None:
    # Both decisions with confidence 0.9 are right. Of the three with confidence 0.8, one is right.
    # The threshold 0.8 admits all five: 3 of 5 are right, which is below the target 0.7. Four of
    # the five, with 3 right, would reach the target. But no threshold admits only some of the
    # decisions that have the same confidence.
    decisions, verdicts = made_up([0.9, 0.9, 0.8, 0.8, 0.8], [True, True, True, False, False])
    judgement = judge.judge_decisions(decisions, verdicts, after=0).fixed_threshold
    assert (judgement.emitted, judgement.confidence) == (2, 0.9)
    assert judgement.share == 2.5


def test_a_threshold_that_nothing_holds_emits_nothing() -> None:
    judgement = judge.judge_decisions(*made_up([0.9, 0.8], [False, False]), after=0)
    assert judgement.fixed_threshold == Threshold(emitted=0, confidence=None, share=None)


def test_a_rival_that_wins_is_named(record: backtest.Record) -> None:
    wrong = [msgspec.structs.replace(v, hit=False, brier=0.9) for v in record.verdicts]
    judgement = judge.judge_decisions(record.decisions, wrong, UNIVERSE, seasons=(24,))
    assert {"season 24", "ridge", "euclid margin"} <= set(judgement.winners)
    ridge = judgement.rivals[-1]
    assert ridge.wins_clearly == ("hit", "precision", "brier")
    assert "better than midstreamer" in shown(judgement)
    assert "ridge" in shown(judgement).rpartition("better than midstreamer")[2]


def shown(judgement: Judgement) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(judgements.table(judgement))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_silent_stream_is_judged_without_precision(record: backtest.Record) -> None:
    silent = [msgspec.structs.replace(d, direction=None) for d in record.decisions]
    judgement = judge.judge_decisions(silent, record.verdicts, UNIVERSE)
    assert judgement.precision is None
    assert judgement.emitted == 0
    assert "- of 70.0%" in shown(judgement)


@pytest.mark.parametrize("count", [0, 5])
def test_a_record_with_nothing_to_judge_is_refused(record: backtest.Record, count: int) -> None:
    with pytest.raises(BadInput, match=r"belong to 0 streams|left to judge"):
        judge.judge_decisions(record.decisions[:count], record.verdicts, after=2**62)


def test_streams_are_not_mixed(record: backtest.Record) -> None:
    other = backtest.record(Walk(UNIVERSE, make.a_specification(), stop=200 * make.HOUR))
    with pytest.raises(BadInput, match="2 streams"):
        judge.judge_decisions(record.decisions + other.decisions, record.verdicts + other.verdicts)


def test_the_bootstrap_holds_the_truth_as_often_as_it_says() -> None:
    dice = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        # Four outcomes in a row are always equal, so outcomes are not independent.
        hit = (np.repeat(dice.random(100), 4) < 0.6).astype(float)
        blocks = bootstrap.Blocks(np.arange(400), horizon=10, draws=200)
        figure = bootstrap.figure(blocks.ratio(hit, np.ones(400)))
        assert figure is not None
        held += figure.low <= 0.6 <= figure.high
    assert 0.86 <= held / 200 <= 0.99
