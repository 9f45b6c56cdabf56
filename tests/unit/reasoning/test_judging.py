"""A verdict compares a forecast with its outcome; the scores agree with a published library."""

import importlib
import math

import msgspec
import numpy as np
import pytest

from midstreamer import reasoning
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.specification import Transform
from tests.support import reasoning_builders as make


def a_decision(*, probability: float = 0.8, low: float = -1.0, high: float = 2.0) -> Decision:
    fresh = reasoning.initial(make.a_specification())
    decided = reasoning.decide(make.evidence_of(np.linspace(-1, 2, 10)), fresh)
    return msgspec.structs.replace(
        decided, probability=probability, low=low * decided.scale, high=high * decided.scale
    )


@pytest.mark.parametrize(
    ("probability", "outcome", "hit"),
    [(0.8, 1.0, True), (0.8, -1.0, False), (0.2, -1.0, True), (0.2, 1.0, False),
     (0.5, 1.0, True), (0.8, 0.0, False), (0.2, 0.0, False)],
)  # fmt: skip
def test_the_favoured_side_hits_and_no_change_never_does(
    probability: float, outcome: float, hit: bool
) -> None:
    assert make.verdict_of(a_decision(probability=probability), outcome).hit is hit


@pytest.mark.slow  # scoringrules compiles functions while it is imported
@pytest.mark.parametrize("outcome", [-3.0, -1.5, -0.4, 0.7, 1.9, 2.5])
def test_scores_agree_with_scoringrules(outcome: float) -> None:
    scoringrules = importlib.import_module("scoringrules")
    decided = a_decision()
    verdict = make.verdict_of(decided, outcome)
    rose = float(outcome > 0)
    assert verdict.outcome == pytest.approx(outcome)
    assert verdict.brier == pytest.approx(scoringrules.brier_score(rose, 0.8))
    for arm, loss in zip(decided.arms, verdict.brier_arms, strict=True):
        assert loss == pytest.approx(scoringrules.brier_score(rose, arm))
    alpha = 1.0 - decided.specification.coverage
    interval = scoringrules.interval_score(outcome, -1.0, 2.0, alpha)
    assert verdict.winkler == pytest.approx(float(interval))
    assert verdict.covered is (-1.0 <= outcome <= 2.0)


def test_the_change_is_in_the_units_of_the_decision() -> None:
    specification = make.a_specification(transform=Transform.LOG)
    fresh = reasoning.initial(specification)
    prices = np.exp(np.sin(np.arange(8)))
    evidence = make.evidence_of([1.0] * 10, values=prices, specification=specification)
    decided = reasoning.decide(evidence, fresh)
    verdict = reasoning.judge(decided, float(prices[-1]) * 1.1, decided.time + 1)
    assert verdict.change == pytest.approx(math.log(1.1))
    assert verdict.outcome == pytest.approx(math.log(1.1) / decided.scale)


def test_an_unbounded_interval_covers_and_has_no_width() -> None:
    verdict = make.verdict_of(a_decision(low=-math.inf, high=math.inf), 100.0)
    assert verdict.covered
    assert verdict.winkler == math.inf


def test_a_verdict_before_its_due_time_is_refused() -> None:
    decided = a_decision()
    with pytest.raises(BadInput, match="the due time must be later"):
        reasoning.judge(decided, 1.0, decided.time)


def test_what_never_settles_is_never_judged() -> None:
    decided = msgspec.structs.replace(a_decision(), index=-1)
    with pytest.raises(BadInput, match="never settles"):
        reasoning.judge(decided, 1.0, decided.time + 1)


def test_a_value_that_is_no_number_is_refused() -> None:
    decided = a_decision()
    with pytest.raises(BadInput, match="nan"):
        reasoning.judge(decided, math.nan, decided.time + 1)
