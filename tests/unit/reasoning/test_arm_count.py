"""A decision is settled with the arms that it was made with, even if this version has others."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer import reasoning
from midstreamer.domain.decision import ARMS_MAX, Decision
from midstreamer.domain.state import State
from midstreamer.reasoning import forecast, learning, mixture
from tests.support import reasoning_builders as make

FAR = 10**18
summed = st.lists(st.floats(0.0, 50.0), min_size=1, max_size=6)


def with_arms(decision: Decision, count: int) -> Decision:
    """Return the decision as a version of the program with `count` arms would have made it."""
    arms = (*decision.arms, *[0.25, 0.75] * 50)[:count]
    return msgspec.structs.replace(decision, arms=arms)


def settled(state: State, arms: int, *, index: int = 600) -> State:
    """Return the state after it learned a decision that has ``arms`` arms, and then its verdict."""
    evidence = make.evidence_of([1.0] * 10, index=index)
    decision = with_arms(reasoning.decide(evidence, state), arms)
    state = reasoning.learn(reasoning.learn(state, decision), make.verdict_of(decision, 1.0))
    return learning._folded(state, FAR)


@pytest.mark.parametrize("arms", [0, 1, 3, 4, 5, 6, 100])
def test_a_decision_with_other_arms_settles(arms: int) -> None:
    before = make.learned_stream(400)
    after = settled(before, arms)
    assert after.version == before.version + 2
    assert max(waiting.time for waiting in after.pending.values()) < 600 * make.HOUR
    assert learning.losses(after).shape[1] == min(max(arms, forecast.ARMS_FIRST), ARMS_MAX)
    assert reasoning.encode(reasoning.decode(reasoning.encode(after))) == reasoning.encode(after)


def test_every_arm_that_was_asked_is_charged_its_own_loss() -> None:
    phase = 600 % 3
    folded = learning._folded(make.learned_stream(400), FAR)
    before, after = (learning.losses(at)[phase] for at in (folded, settled(folded, 3)))
    # The outcome was a rise, so the loss of each arm is (P(rise) - 1)^2.
    decided = reasoning.decide(make.evidence_of([1.0] * 10, index=600), folded)
    lost = [(arm - 1.0) ** 2 for arm in decided.arms[:3]]
    assert (after[:3] - before[:3]).tolist() == pytest.approx(lost)


@given(losses=st.lists(st.floats(0.0, 50.0), min_size=2, max_size=6), lost=summed)
def test_an_arm_that_was_not_asked_keeps_its_share_of_the_weight(
    losses: list[float], lost: list[float]
) -> None:
    lost = lost[: len(losses) - 1]
    before = mixture.weights(losses)
    after = mixture.weights(mixture.charged(losses, lost))
    assert after[len(lost) :] == pytest.approx(before[len(lost) :], rel=1e-6, abs=1e-12)


@given(losses=summed, count=st.integers(1, 8))
def test_a_new_arm_begins_with_the_average_weight(losses: list[float], count: int) -> None:
    known = len(losses)
    weights = mixture.weights(mixture.fitted(losses, max(known, count)))
    average = sum(weights[:known]) / known
    assert weights[known:] == pytest.approx([average] * (len(weights) - known))


def test_a_state_with_more_arms_still_decides() -> None:
    evidence = make.evidence_of([1.0] * 10, index=700)
    wide = settled(make.learned_stream(400), 6)
    assert reasoning.decide(evidence, wide).arms == pytest.approx(
        reasoning.decide(evidence, settled(make.learned_stream(400), 4)).arms
    )


@pytest.mark.parametrize("arms", [3, 6])
def test_the_room_for_decisions_with_other_arms_is_counted_before_it_is_needed(arms: int) -> None:
    state, verdicts = make.learned_stream(60), []
    for index in range(200, 230):
        decision = reasoning.decide(make.evidence_of([1.0] * 10, index=index), state)
        state = reasoning.learn(state, with_arms(decision, arms))
        verdicts.append(make.verdict_of(with_arms(decision, arms), 1.0))
    foreseen = len(reasoning.encode(state)) + reasoning.room(state)
    for verdict in verdicts:
        state = reasoning.learn(state, verdict)
        assert len(reasoning.encode(state)) + reasoning.room(state) <= foreseen
    assert len(reasoning.encode(learning._folded(state, FAR))) <= foreseen


def test_bytes_follow_from_the_events_and_not_from_where_a_process_restarted() -> None:
    dice, running = np.random.default_rng(5), reasoning.initial(make.a_specification())
    restarted = running
    for index in range(100, 160):
        evidence = make.evidence_of(dice.standard_normal(10), index=index)
        decision = with_arms(reasoning.decide(evidence, running), 3 + index % 4)
        for event in (decision, make.verdict_of(decision, float(dice.normal()))):
            running = reasoning.learn(running, event)
            restarted = reasoning.learn(reasoning.decode(reasoning.encode(restarted)), event)
    assert reasoning.encode(running) == reasoning.encode(restarted)
