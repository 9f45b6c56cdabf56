"""`room`: an upper bound on the bytes by which a state can grow without a new decision."""

import itertools

import numpy as np
import pytest

from midstreamer import reasoning
from midstreamer.domain.state import State
from tests.support import reasoning_builders as make


def bytes_with_room(state: State) -> int:
    return len(reasoning.encode(state)) + reasoning.room(state)


@pytest.mark.parametrize("horizon", [1, 5, 300])
def test_only_a_decision_makes_a_state_larger_than_was_foreseen(horizon: int) -> None:
    specification = make.a_specification(horizon=horizon)
    state, dice = reasoning.initial(specification), np.random.default_rng(horizon)
    verdicts = []
    for index, name in itertools.product(range(100, 130), ("u/a", "u/bb", "u/a-longer-name")):
        evidence = make.evidence_of(
            dice.standard_normal(10), name=name, index=index, specification=specification
        )
        decided = reasoning.decide(evidence, state)
        before = bytes_with_room(state)
        state = reasoning.learn(state, decided)
        # Each decision needs room for its record, for its later verdict and for what is learned
        # from the verdict. The first decision of a series (index 100) also needs room for the
        # series itself, and for its cells in the licence: one cell for each phase.
        assert bytes_with_room(state) - before < 500 + (90 * horizon + 100) * (index == 100)
        verdicts.append(make.verdict_of(decided, float(dice.normal())))
    foreseen = bytes_with_room(state)
    for verdict in verdicts:
        state = reasoning.learn(state, verdict)
        assert bytes_with_room(state) <= foreseen
    assert len(reasoning.encode(reasoning.learning._folded(state, 10**18))) <= foreseen
