"""A stream learns each event once, in order of event time, whatever the order of arrival."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer import reasoning
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from tests.support import reasoning_builders as make

SERIES = ("u/a", "u/b", "u/c", "u/d")


def a_panel(hours: int, shuffles: st.DataObject | None = None) -> State:
    """Learn four series with a tick an hour; `shuffles` may reorder the events of each hour."""
    dice = np.random.default_rng(1)
    state = reasoning.initial(make.a_specification())
    due: dict[int, list[Verdict]] = {}
    for index in range(100, 100 + hours):
        decided = [
            reasoning.decide(
                make.evidence_of(dice.normal(0.5, 1.0, 10), name=name, index=index), state_at
            )
            for state_at in [learned(state, due.get(index, []), None)]
            for name in SERIES
        ]
        due[index + 3] = [make.verdict_of(each, float(dice.normal())) for each in decided]
        state = learned(state, [*due.pop(index, []), *decided], shuffles)
    return state


def learned(
    state: State, events: Sequence[Verdict | Decision], shuffles: st.DataObject | None
) -> State:
    ordered = shuffles.draw(st.permutations(list(events))) if shuffles else events
    for event in ordered:
        state = reasoning.learn(state, event)
    return state


@settings(max_examples=40)
@given(shuffles=st.data())
def test_any_order_within_a_time_gives_the_same_bytes(shuffles: st.DataObject) -> None:
    assert reasoning.encode(a_panel(7, shuffles)) == reasoning.encode(a_panel(7))


def test_decisions_of_one_time_never_see_each_other() -> None:
    state = make.learned_stream(300)
    evidence = make.evidence_of(np.linspace(-1, 2, 10), name="u/b", index=2000)
    alone = reasoning.decide(evidence, state)
    other = make.evidence_of(np.linspace(-2, 1, 10), name="u/a", index=2000)
    after = reasoning.decide(evidence, reasoning.learn(state, reasoning.decide(other, state)))
    unversioned = msgspec.structs.replace(after, state_version=alone.state_version)
    assert unversioned == alone


def test_a_verdict_counts_from_its_due_time_on_and_not_before() -> None:
    state = make.learned_stream(300)
    decided = reasoning.decide(make.evidence_of([1.0] * 10, index=2000), state)
    state = reasoning.learn(state, decided)
    after = reasoning.learn(state, make.verdict_of(decided, -3.0))

    def foretold(index: int, known: State) -> float:
        # The verdict on the decision at index 2000 is due at index 2003. Losses are kept by phase,
        # which is the index modulo the horizon 3. Index 2003 has the phase of 2000. Index 2002 lies
        # before the due time, and has another phase.
        evidence = make.evidence_of(np.linspace(-1, 2, 10), index=index)
        return reasoning.decide(evidence, known).probability

    assert foretold(2002, after) == foretold(2002, state)
    assert foretold(2003, after) != foretold(2003, state)


def test_what_is_learned_twice_is_learned_once() -> None:
    state = make.learned_stream(200)
    decided = reasoning.decide(make.evidence_of([1.0] * 10, index=2000), state)
    pending = reasoning.learn(state, decided)
    assert reasoning.learn(pending, decided) is pending
    verdict = make.verdict_of(decided, 1.0)
    after = reasoning.learn(pending, verdict)
    assert reasoning.learn(after, verdict) is after
    later = reasoning.decide(make.evidence_of([1.0] * 10, index=2010), after)
    folded = reasoning.learn(after, later)
    assert reasoning.learn(folded, verdict) is folded


def test_each_event_raises_the_version_by_one() -> None:
    state = reasoning.initial(make.a_specification())
    decided = reasoning.decide(make.evidence_of([1.0] * 10), state)
    once = reasoning.learn(state, decided)
    twice = reasoning.learn(once, make.verdict_of(decided, 1.0))
    assert (state.version, once.version, twice.version) == (0, 1, 2)


def test_a_verdict_of_a_decision_never_learned_is_refused() -> None:
    state = reasoning.initial(make.a_specification())
    decided = reasoning.decide(make.evidence_of([1.0] * 10), state)
    with pytest.raises(BadInput, match="never learned"):
        reasoning.learn(state, make.verdict_of(decided, 1.0))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("due_time", 100 * make.HOUR, "later than the decision"),
        ("series", "u/other", "names u/other"),
        ("brier_arms", (0.1,), "losses of 1 arms"),
    ],
)
def test_a_verdict_that_cannot_be_its_decisions_is_refused(
    field: str, value: object, words: str
) -> None:
    state = reasoning.initial(make.a_specification())
    decided = reasoning.decide(make.evidence_of([1.0] * 10), state)
    wrong = msgspec.structs.replace(make.verdict_of(decided, 1.0), **{field: value})
    with pytest.raises(BadInput, match=words):
        reasoning.learn(reasoning.learn(state, decided), wrong)


def test_a_decision_that_never_settles_is_not_learned() -> None:
    state = reasoning.initial(make.a_specification())
    decided = reasoning.decide(make.evidence_of([1.0] * 10, name="", index=-1), state)
    assert reasoning.learn(state, decided) is state


def test_a_decision_of_another_stream_is_refused() -> None:
    decided = reasoning.decide(
        make.evidence_of([1.0] * 10), reasoning.initial(make.a_specification())
    )
    with pytest.raises(BadInput, match="cannot be learned in the state of"):
        reasoning.learn(reasoning.initial(make.a_specification(horizon=4)), decided)


def test_a_late_verdict_is_learned_when_it_comes() -> None:
    state = make.learned_stream(200)
    late = reasoning.decide(make.evidence_of([1.0] * 10, index=2000), state)
    state = reasoning.learn(state, late)
    for index in range(2001, 2020):
        next_one = reasoning.decide(make.evidence_of([0.5] * 10, index=index), state)
        state = reasoning.learn(state, next_one)
    assert late.experience_id in state.pending
    state = reasoning.learn(state, make.verdict_of(late, 1.0))
    after = reasoning.decide(make.evidence_of([1.0] * 10, index=2020), state)
    assert late.experience_id not in reasoning.learn(state, after).pending


def test_a_decision_asked_out_of_order_teaches_nothing() -> None:
    state = make.learned_stream(300)
    past = reasoning.decide(make.evidence_of([2.0] * 10, index=50), state)
    after = reasoning.learn(reasoning.learn(state, past), make.verdict_of(past, -9.0))
    evidence = make.evidence_of(np.linspace(-1, 2, 10), index=2001)
    asked = [reasoning.decide(evidence, known) for known in (state, after)]
    assert asked[0].probability == asked[1].probability
    assert (asked[0].low, asked[0].rank) == (asked[1].low, asked[1].rank)


def test_what_could_not_be_foretold_teaches_nothing() -> None:
    state = make.learned_stream(300)
    for index, evidence in enumerate(
        [
            make.evidence_of([1.0] * 10, values=[4.0] * 8, index=2000),
            make.evidence_of([1.0] * 2, index=2000),
            make.evidence_of([1.0] * 10, newest=False, index=2000),
        ]
    ):
        decided = reasoning.decide(evidence, state)
        after = reasoning.learn(reasoning.learn(state, decided), make.verdict_of(decided, -9.0))
        later = make.evidence_of(np.linspace(-1, 2, 10), index=2100 + index)
        assert (
            reasoning.decide(later, after).probability == reasoning.decide(later, state).probability
        )


def test_a_verdict_changes_neither_the_time_nor_the_waiting_decisions() -> None:
    state = make.learned_stream(300)
    decided = reasoning.decide(make.evidence_of([1.0] * 10, index=2000), state)
    state = reasoning.learn(state, decided)
    after = reasoning.learn(state, make.verdict_of(decided, 1.0))
    assert after.time == state.time == decided.time
    assert after.waiting == state.waiting
    assert decided.experience_id not in after.pending
    between = reasoning.decide(make.evidence_of([1.0] * 10, index=2001), after)
    kept = reasoning.learn(after, between)
    assert [known.experience_id for known in kept.known] == [decided.experience_id]


def test_late_decisions_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning.learning, "LATE_MAX", 20)
    state = make.learned_stream(300)
    for index in range(100, 200):
        late = reasoning.decide(make.evidence_of([1.0] * 10, name="u/b", index=index), state)
        state = reasoning.learn(reasoning.learn(state, late), make.verdict_of(late, 1.0))
    assert len(state.waiting) + len(state.known) <= 24
    assert state.time == 399 * make.HOUR
