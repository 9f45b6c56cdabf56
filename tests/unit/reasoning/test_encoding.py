"""A learning state as bytes: small, and the same bit for bit after a restart."""

import pytest

from midstreamer import reasoning
from midstreamer.domain.errors import BadInput
from tests.support import reasoning_builders as make


def test_a_state_comes_back_bit_for_bit() -> None:
    state = make.learned_stream(400)
    data = reasoning.encode(state)
    back = reasoning.decode(data)
    assert reasoning.encode(back) == data
    assert (back.version, back.stream) == (state.version, state.stream)


@pytest.mark.parametrize("cut", [0, 1, 7, 120, 199, 200])
def test_a_restart_anywhere_gives_the_same_state(cut: int) -> None:
    dice_seeds = (3, 4)
    fresh = reasoning.initial(make.a_specification())
    unbroken = make.streamed(fresh, 100, cut, seed=dice_seeds[0])
    restarted = reasoning.decode(reasoning.encode(unbroken))
    ends = [
        make.streamed(state, 1000, 200 - cut, seed=dice_seeds[1]) for state in (unbroken, restarted)
    ]
    assert reasoning.encode(ends[0]) == reasoning.encode(ends[1])


def test_a_state_of_twenty_series_stays_below_48_kb() -> None:
    specification = make.a_specification(horizon=5)
    state = reasoning.initial(specification)
    for index in range(100, 180):
        for name in range(20):
            evidence = make.evidence_of(
                [1.0] * 10, name=f"u/s{name}", index=index, specification=specification
            )
            decided = reasoning.decide(evidence, state)
            state = reasoning.learn(state, decided)
            if index < 174:
                state = reasoning.learn(state, make.verdict_of(decided, 1.0))
    assert len(reasoning.encode(state)) < 48_000


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01", b"\x01\x93\x01", b"\x02" + b"\x00" * 9])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"state format|cannot be decoded as a learning state"):
        reasoning.decode(data)
