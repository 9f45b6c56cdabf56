"""The licence: rarely given without skill, soon given with skill, revoked when skill is lost."""

import math

import numpy as np
import pytest

from midstreamer.domain.series import Floats
from midstreamer.domain.state import Pending
from midstreamer.reasoning import licence
from midstreamer.reasoning.licence import DELTA, PROBES, STAKES, Gate


def a_decision(
    *, rank: float = 0.95, phase: int = 0, series: str = "u/a", emitted: bool = False
) -> Pending:
    return Pending(b"id", series, 0, phase, (), 0.1, -1.0, 1.0, rank, emitted, True)


def decide_and_settle(gate: Gate, right: bool, **fields: object) -> None:
    pending = gate.decided(a_decision(**fields))  # type: ignore[arg-type]
    gate.settled(pending, right=right)


def wealth(right: np.ndarray, target: float) -> tuple[Floats, Floats]:
    """Return the wealth of each stream: first the wealth at the end, then the greatest ever.

    A stream has one bet for each stake s, and its wealth is the mean wealth of its bets. Each
    verdict first adds a small portion to the wealth of a bet, and then multiplies this wealth by
    1 + s (right - target) / target. `right` has the shape (streams, decisions), and each result has
    the shape (streams,).
    """
    now = np.full((len(right), len(STAKES)), 0.5)
    greatest = np.zeros(len(right))
    for place in range(right.shape[1]):
        n = place + 2.0
        growth = 1.0 + np.array(STAKES) / target * (right[:, place, np.newaxis] - target)
        now = (now + licence.DEALT / (n * math.log(n) ** 2)) * growth
        greatest = np.maximum(greatest, now.mean(axis=1))
    return now.mean(axis=1), greatest


def first_licences(right: np.ndarray, target: float, need: float) -> float:
    """Return the share of streams that ever get a licence: their wealth reaches ``need``."""
    return float((wealth(right, target)[1] >= need).mean())


def test_a_gate_does_what_the_formula_says() -> None:
    right = np.random.default_rng(0).random(60) < 0.9
    gate = Gate(licence.initial(), target=0.9, horizon=1)
    for each in right.tolist():
        decide_and_settle(gate, each)
    expected = wealth(right[np.newaxis], 0.9)[0][0]
    assert gate.evidence() == pytest.approx([expected] * len(PROBES))


@pytest.mark.parametrize("target", [0.55, 0.9])
def test_false_licences_are_rarer_than_delta_however_long_one_looks(target: float) -> None:
    right = np.random.default_rng(1).random((2000, 1500)) < target
    assert first_licences(right, target, licence.needed(0)) <= DELTA
    # If a tenth of this wealth were enough, more than DELTA of the streams would get a licence.
    assert first_licences(right, target, licence.needed(0) / 10.0) > DELTA


@pytest.mark.parametrize("target", [0.55, 0.9])
def test_the_gate_itself_keeps_delta_on_streams_without_merit(target: float) -> None:
    dice = np.random.default_rng(2)
    licensed = 0
    for _ in range(100):
        gate = Gate(licence.initial(), target=target, horizon=2)
        for place, each in enumerate((dice.random(240) < target).tolist()):
            decide_and_settle(gate, each, phase=place % 2)
        licensed += gate.closed().held
    assert licensed / 100 <= DELTA


def test_series_that_move_together_earn_no_more_than_one_would() -> None:
    target, series = 0.8, 10
    right = np.random.default_rng(3).random((400, 500)) < target
    # `Gate` averages the wealth of all series, so ten copies of one series have the wealth of one.
    assert first_licences(right, target, licence.needed(0)) <= DELTA
    # If `Gate` multiplied the wealth of the ten copies, as if they were independent, more than
    # DELTA of the streams would get a licence.
    copied = np.repeat(right, series, axis=1)
    assert first_licences(copied, target, licence.needed(0)) > DELTA


@pytest.mark.parametrize(
    ("target", "precision", "horizon", "decisions"),
    # Suppose that `Gate` bet only on the most confident fifth of the decisions, and staked at most
    # 0.7 of its wealth. In these three cases it would give a licence after 1020, 4012 and 3892
    # decisions (medians). The name of the test calls these numbers the usual wait. The last number
    # of each case is half of the usual wait.
    [(0.9, 0.95, 1, 510), (0.9, 0.95, 6, 2006), (0.95, 0.995, 6, 1946)],
)
def test_merit_is_licensed_within_half_the_usual_wait(
    target: float, precision: float, horizon: int, decisions: int
) -> None:
    dice = np.random.default_rng(1)
    in_time = 0
    for _ in range(24):
        gate = Gate(licence.initial(), target=target, horizon=horizon)
        ranks = dice.random(decisions).tolist()
        for place, right in enumerate((dice.random(decisions) < precision).tolist()):
            decide_and_settle(gate, right, rank=ranks[place], phase=place % horizon)
        in_time += gate.closed().held
    assert in_time >= 12


@pytest.mark.parametrize(("rank", "threshold"), [(0.9, 0.8), (0.6, 0.5)])
def test_a_licence_starts_at_the_probe_that_proved_itself(rank: float, threshold: float) -> None:
    gate = Gate(licence.initial(), target=0.6, horizon=1)
    while not gate.closed().held:
        # In the case of rank 0.9, each right decision follows a wrong one of rank 0.6. The top half
        # contains both, so its precision is 0.5, which is below the target 0.6. The top fifth
        # contains only the right decisions, so its bets win the licence. The lowest rank of the top
        # fifth is 0.8, so the threshold begins at 0.8.
        if rank == 0.9:
            decide_and_settle(gate, right=False, rank=0.6)
        decide_and_settle(gate, right=True, rank=rank)
    assert gate.closed().threshold == pytest.approx(threshold)


def a_licensed_gate(target: float = 0.8) -> Gate:
    gate = Gate(licence.initial(), target=target, horizon=1)
    while not gate.closed().held:
        decide_and_settle(gate, right=True)
    return gate


def test_a_licence_that_loses_its_precision_is_revoked_and_costs_double() -> None:
    gate = a_licensed_gate()
    while gate.closed().held:
        decide_and_settle(gate, right=False, rank=0.99)
    after = gate.closed()
    assert after.revocations == 1
    assert after.threshold == pytest.approx(0.8)
    assert gate.evidence() == pytest.approx([0.5] * len(PROBES))
    assert licence.needed(1) == 2 * licence.needed(0)


def test_what_was_decided_under_a_licence_is_not_bet_on_after_its_end() -> None:
    gate = a_licensed_gate()
    pending = gate.decided(a_decision())
    while gate.closed().held:
        decide_and_settle(gate, right=False, rank=0.99)
    gate.settled(pending, right=True)
    assert gate.evidence() == pytest.approx([0.5] * len(PROBES))


def test_the_threshold_holds_the_share_of_errors() -> None:
    gate = a_licensed_gate()
    dice = np.random.default_rng(5)
    right_of, emitted = [], 0
    for _ in range(6000):
        rank = float(dice.random())
        now = gate.closed()
        speaks = now.held and rank >= licence.bar(now, 0.8)
        right = bool(dice.random() < 0.6 + 0.35 * rank)
        decide_and_settle(gate, right, rank=rank, emitted=speaks)
        if speaks:
            emitted += 1
            right_of.append(right)
    assert emitted > 2000
    assert np.mean(right_of) == pytest.approx(0.8, abs=0.02)


def test_pending_signals_are_charged_at_the_recent_error_rate() -> None:
    gate = a_licensed_gate()
    before = licence.bar(gate.closed(), 0.8)
    pending = [gate.decided(a_decision(emitted=True)) for _ in range(5)]
    charged = licence.bar(gate.closed(), 0.8)
    for each in pending:
        gate.settled(each, right=True)
    assert before < charged
    assert gate.closed().pending == 0
    assert licence.bar(gate.closed(), 0.8) < charged


def test_a_new_series_neither_adds_nor_takes_wealth() -> None:
    gate = Gate(licence.initial(), target=0.8, horizon=2)
    for place in range(20):
        decide_and_settle(gate, right=True, phase=place % 2)
    before = gate.evidence()
    gate.decided(a_decision(series="u/b"))
    assert gate.evidence() == pytest.approx(before)
    assert gate.series_count == 2


def test_what_is_closed_opens_again_as_it_was() -> None:
    gate = a_licensed_gate()
    decide_and_settle(gate, right=True)
    closed = gate.closed()
    assert Gate(closed, target=0.8, horizon=1).closed() == closed
