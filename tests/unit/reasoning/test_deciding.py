"""Every decision has a forecast; a decision has a signal only if every check passes."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from midstreamer import reasoning
from midstreamer.domain import decision as decisions
from midstreamer.domain.decision import Direction, Evidence, Reason
from midstreamer.domain.errors import BadInput
from midstreamer.domain.specification import Transform
from midstreamer.domain.state import State
from midstreamer.reasoning import deciding
from tests.support import reasoning_builders as make

RISING = np.linspace(0.5, 2.0, 10)


@pytest.fixture(scope="module")
def licensed() -> State:
    """Return the state of a stream with target 0.8 that was right nine times in ten."""
    state = make.learned_stream(900, skill=0.97)
    assert state.licence.held
    return state


def with_licence(state: State, **fields: object) -> State:
    return msgspec.structs.replace(state, licence=msgspec.structs.replace(state.licence, **fields))


def with_tracker(state: State, **fields: object) -> State:
    return msgspec.structs.replace(state, tracker=msgspec.structs.replace(state.tracker, **fields))


def test_a_sure_rise_gives_long_and_a_sure_fall_gives_short(licensed: State) -> None:
    up = reasoning.decide(make.evidence_of(RISING, index=5000), licensed)
    down = reasoning.decide(make.evidence_of(-RISING, index=5000), licensed)
    assert (up.direction, down.direction) == (Direction.LONG, Direction.SHORT)
    assert up.reason is None
    assert up.probability > 0.9 > 0.1 > down.probability
    assert up.low < up.change < up.high


REASONS: dict[Reason, Callable[[State], tuple[Evidence, State]]] = {
    Reason.FLAT_WINDOW: lambda s: (make.evidence_of(RISING, values=[3.0] * 8, index=5000), s),
    Reason.STALE_DATA: lambda s: (make.evidence_of(RISING, newest=False, index=5000), s),
    Reason.NO_MEMORY: lambda s: (make.evidence_of(RISING[:4], index=5000), s),
    Reason.WARMING_UP: lambda s: (
        make.evidence_of(RISING, index=5000),
        msgspec.structs.replace(s, doubts=s.doubts[:40], waiting=(), known=()),
    ),
    Reason.UNBOUNDED: lambda s: (
        make.evidence_of(RISING, index=5000),
        with_tracker(msgspec.structs.replace(s, waiting=(), known=()), capped=True),
    ),
    Reason.UNLICENSED: lambda s: (
        make.evidence_of(RISING, index=5000),
        with_licence(msgspec.structs.replace(s, waiting=(), known=()), held=False),
    ),
    Reason.BELOW_THRESHOLD: lambda s: (
        make.evidence_of([-1.0, 1.0] * 5, index=5000),
        with_licence(msgspec.structs.replace(s, waiting=(), known=()), threshold=0.9),
    ),
}


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_silences_by_itself(reason: Reason, licensed: State) -> None:
    evidence, state = REASONS[reason](licensed)
    decided = reasoning.decide(evidence, state)
    assert (decided.reason, decided.direction) == (reason, None)


def test_the_checks_stand_in_the_order_of_the_reasons() -> None:
    names = [check.__name__.strip("_") for check in deciding.CHECKS]
    assert names == [reason.value for reason in Reason]


def test_the_first_reason_that_applies_is_given() -> None:
    evidence = make.evidence_of([], values=[3.0] * 8, newest=False)
    fresh = reasoning.initial(make.a_specification())
    assert reasoning.decide(evidence, fresh).reason is Reason.FLAT_WINDOW


def test_a_flat_window_foretells_nothing_and_does_not_break() -> None:
    fresh = reasoning.initial(make.a_specification())
    decided = reasoning.decide(make.evidence_of(RISING, values=[3.0] * 8), fresh)
    assert (decided.scale, decided.change) == (0.0, 0.0)
    assert (decided.low, decided.high) == (-np.inf, np.inf)
    assert set(decided.arms) == {decided.probability}
    assert not decided.judged


def test_a_window_of_no_series_gets_a_decision_that_never_settles(licensed: State) -> None:
    evidence = make.evidence_of(RISING, name="", index=-1)
    decided = reasoning.decide(evidence, licensed)
    assert not decided.settles
    assert not decided.judged
    assert decided.due_index == -1


def test_deciding_changes_no_state_and_gives_the_same_decision_again(licensed: State) -> None:
    before = reasoning.encode(licensed)
    evidence = make.evidence_of(RISING, index=5000)
    first, again = (reasoning.decide(evidence, licensed) for _ in range(2))
    copy = reasoning.decide(evidence, reasoning.decode(before))
    assert msgspec.msgpack.encode(first) == msgspec.msgpack.encode(again)
    assert msgspec.msgpack.encode(first) == msgspec.msgpack.encode(copy)
    assert reasoning.encode(licensed) == before


def test_a_decision_names_what_it_was_made_of(licensed: State) -> None:
    evidence = make.evidence_of(RISING, index=5000)
    decided = reasoning.decide(evidence, licensed)
    assert decided.experience_id == decisions.experience_id(evidence.specification, evidence.window)
    assert decided.state_version == licensed.version
    assert (decided.library, decided.kernel) == (reasoning.LIBRARY, "test")
    assert len(decided.arms) == len(reasoning.ARMS)
    assert decided.confidence == max(decided.probability, 1.0 - decided.probability)


def test_evidence_of_another_specification_is_refused() -> None:
    other = reasoning.initial(make.a_specification(horizon=4))
    with pytest.raises(BadInput, match="cannot be used with the state of"):
        reasoning.decide(make.evidence_of(RISING), other)


def test_a_window_of_another_length_is_refused() -> None:
    fresh = reasoning.initial(make.a_specification())
    with pytest.raises(BadInput, match=r"window of 5 values .*window = 8"):
        reasoning.decide(make.evidence_of(RISING, values=[1.0] * 5), fresh)


def test_a_price_without_a_logarithm_is_refused() -> None:
    specification = make.a_specification(transform=Transform.LOG)
    evidence = make.evidence_of(RISING, values=[1.0] * 7 + [0.0], specification=specification)
    with pytest.raises(BadInput, match=r"value 7 is 0\.0"):
        reasoning.decide(evidence, reasoning.initial(specification))
