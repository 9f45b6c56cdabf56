"""The loss of the mixture of arms is never much above the loss of its best arm."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.series import Floats
from midstreamer.reasoning import mixture

ARMS = 4
BOUND = 2.0 * math.log(ARMS)
probabilities = st.lists(
    st.tuples(st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])] * ARMS), st.booleans()),
    min_size=1,
    max_size=60,
)


def regret(rounds: list[tuple[tuple[float, ...], bool]], delay: int = 0) -> float:
    """Return the mixture's loss minus the best arm's; verdicts come ``delay`` rounds late."""
    known, lost = np.zeros(ARMS), 0.0
    losses: list[Floats] = []
    for place, (arms, rose) in enumerate(rounds):
        if place > delay:
            known = known + losses[place - delay - 1]
        lost += (mixture.mixed(arms, known.tolist()) - rose) ** 2
        losses.append((np.array(arms) - rose) ** 2)
    return float(lost - np.sum(losses, axis=0).min())


@given(rounds=probabilities)
def test_regret_stays_below_two_log_arms_whatever_comes(
    rounds: list[tuple[tuple[float, ...], bool]],
) -> None:
    assert regret(rounds) <= BOUND + 1e-9


def adversary(count: int, delay: int) -> list[tuple[tuple[float, ...], bool]]:
    """Return rounds in which the mixture loses much if verdicts come ``delay`` rounds late.

    The outcome changes every ``delay + 1`` rounds. Of the four arms, the first is always wrong and
    the second always right. The last two are right in turn, each for ``delay + 1`` rounds.
    """
    rounds: list[tuple[tuple[float, ...], bool]] = []
    for place in range(count):
        right = (place // (delay + 1)) % 2
        arms = (float(right), float(1 - right), 1.0, 0.0)
        rounds.append((arms, bool(place % (2 * (delay + 1)) < delay + 1)))
    return rounds


def test_without_phases_a_delay_breaks_the_bound_and_with_them_it_holds() -> None:
    delay = 11
    rounds = adversary(600, delay)
    phases = [rounds[phase :: delay + 1] for phase in range(delay + 1)]
    assert all(regret(phase) <= BOUND for phase in phases)
    assert regret(rounds, delay) > BOUND


def test_a_large_loss_does_not_overflow() -> None:
    weights = mixture.weights([5000.0, 1e6, 5001.0, 1e9])
    assert sum(weights) == pytest.approx(1.0)
    assert weights[0] > weights[2] > 0.0


def test_the_slope_finds_how_much_the_vote_exaggerates() -> None:
    dice = np.random.default_rng(0)
    sums = (0.0, 0.0)
    for _ in range(4000):
        lean = dice.uniform(-0.4, 0.4)
        rose = bool(dice.random() < 0.5 + 0.3 * lean)
        sums = mixture.steepened(sums, base=0.5, voted=0.5 + lean, rise=rose)
    assert mixture.slope(sums) == pytest.approx(0.3, abs=0.12)
    assert mixture.slope((0.0, 0.0)) == 0.0
    assert mixture.slope((1.0, -5.0)) == 0.0
