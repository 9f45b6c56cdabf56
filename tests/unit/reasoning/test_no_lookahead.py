"""No decision uses the future: complete backtests on series with known properties.

The kernels and decisions are real and the series are synthetic. The tests with a planted fault show
that the checks can fail.
"""

import msgspec
import numpy as np
import pytest

import midstreamer_kernels as kernels
from midstreamer import reasoning
from midstreamer.domain import outcome
from midstreamer.domain.decision import Decision
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Floats
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.market import backtest, judge
from midstreamer.market.backtest import Memory, Points, Walk
from tests.support import reasoning_builders as make

pytestmark = pytest.mark.slow

SPECIFICATION = make.a_specification(window=16, horizon=3, neighbours=12, grid=5, band=1)


def decisions_of(points: Points, until: int, specification: Specification) -> list[bytes]:
    """Return all decisions up to position ``until`` as bytes, with analogs and intervals."""
    walk = Walk({"u/a": points}, specification, stop=(until + 1) * make.HOUR)
    return [msgspec.msgpack.encode(event) for event in walk if isinstance(event, Decision)]


def with_another_future(points: Points, after: int, seed: int) -> Points:
    dice = np.random.default_rng(seed)
    values = points.values.copy()
    steps = dice.standard_normal(len(values) - after - 1) * dice.choice([0.001, 1.0, 50.0])
    values[after + 1 :] = values[after] + steps.cumsum()
    return Points(points.times, values)


@pytest.mark.parametrize(("after", "seed"), [(180, 1), (331, 2), (400, 3)])
def test_another_future_changes_no_earlier_decision(after: int, seed: int) -> None:
    points = make.a_season(500)
    other = with_another_future(points, after, seed)
    assert decisions_of(points, after, SPECIFICATION) == decisions_of(other, after, SPECIFICATION)
    assert decisions_of(points, 480, SPECIFICATION) != decisions_of(other, 480, SPECIFICATION)


def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # This fault lets the newest analog end at ``count - horizon``. The outcome of this analog is at
    # the position ``count``: one step in the future.
    monkeypatch.setattr(outcome, "known_until", lambda count, horizon: count + 1 - horizon)
    dense = make.a_specification(window=16, horizon=3, neighbours=400, grid=1, band=0)
    points = make.a_season(500)
    other = with_another_future(points, 331, 2)
    # A search for 400 neighbours returns all windows that may be analogs. Because of the fault, one
    # of them is the window whose outcome lies in the future, so the decision depends on the future.
    assert decisions_of(points, 331, dense) != decisions_of(other, 331, dense)


@pytest.mark.parametrize("until", [lambda n, h: n - h, lambda n, h: n - 2 * h + 1])
def test_an_embargo_cut_short_is_caught(until: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def latest_analog() -> int:
        walk = Walk({"u/a": make.a_season(300)}, make.a_specification(grid=1, window=16))
        return max(
            int(event.matches.start_array().max()) - event.index
            for event in walk
            if isinstance(event, Decision) and len(event.matches)
        )

    horizon, window = 3, 16
    last_lawful = 1 - window - 2 * horizon
    assert latest_analog() <= last_lawful
    monkeypatch.setattr(outcome, "known_until", until)
    assert latest_analog() > last_lawful


def a_panel() -> dict[str, Points]:
    return {f"u/{name}": make.a_season(360, seed=place) for place, name in enumerate("abc")}


def events_of(walk: Walk) -> list[bytes]:
    return [msgspec.msgpack.encode(event) for event in walk]


def test_a_longer_walk_begins_with_the_shorter_one() -> None:
    stop = 240 * make.HOUR
    shorter = events_of(Walk(a_panel(), SPECIFICATION, stop=stop))
    assert events_of(Walk(a_panel(), SPECIFICATION))[: len(shorter)] == shorter


def test_learning_from_stored_events_gives_the_state_of_the_walk() -> None:
    walk = Walk(a_panel(), SPECIFICATION)
    events = list(walk)
    state = reasoning.initial(SPECIFICATION)
    for place, event in enumerate(events):
        state = reasoning.learn(state, event)
        if place % 97 == 0:
            state = reasoning.decode(reasoning.encode(state))
    assert reasoning.encode(state) == reasoning.encode(walk.state)


def rises_after_tops_and_bottoms(walks: range, exclusion: int | None) -> tuple[float, float]:
    """Return the mean share of analogs after which the value rose: for tops, then for bottoms.

    A top is a query window whose last value is far above the mean of the window. A bottom is a
    query window whose last value is far below the mean of the window.
    """
    specification = make.a_specification(window=64, horizon=1, neighbours=40, grid=8, band=0)
    tops: list[float] = []
    bottoms: list[float] = []
    for seed in walks:
        points = make.a_walk(12_000, seed=seed)
        memory = Memory({"u/a": points}, specification)
        history = kernels.History(points.values, dtype="float64")
        for end in range(6000, 12_000, 31):
            window = memory.window(0, end)
            height = (window[-1] - window.mean()) / window.std()
            if abs(height) < 1.6:
                continue
            share = _share_of_rises(memory, history, window, end, exclusion)
            (tops if height > 0 else bottoms).append(share)
    return float(np.mean(tops)), float(np.mean(bottoms))


def _share_of_rises(
    memory: Memory, history: kernels.History, window: Floats, end: int, exclusion: int | None
) -> float:
    if exclusion is None:
        found = memory.nearest(window, [end], barred=0, band=0)
        return float((found.outcome > 0).mean())
    matches = history.search(window, 40, band=0, until=end - 2, exclusion=exclusion)
    points, last = memory.points[0], matches.index + 63
    return float((points[last + 1] > points[last]).mean())


def test_analogs_from_the_grid_tell_nothing_of_a_random_walk() -> None:
    top, bottom = rises_after_tops_and_bottoms(range(60), exclusion=None)
    assert abs(top - 0.5) < 0.02
    assert abs(bottom - 0.5) < 0.02


def test_an_exclusion_zone_would_tell_of_a_future_that_is_not_there() -> None:
    top, bottom = rises_after_tops_and_bottoms(range(3), exclusion=32)
    assert top < 0.4
    assert bottom > 0.6


def stream(skill: float) -> tuple[list[Decision], list[Verdict]]:
    """Return the decisions of a stream and their verdicts.

    The analogs of each decision lean to a rise or to a fall. With the probability ``skill`` the
    outcome has the same direction, and otherwise the opposite one.
    """
    dice = np.random.default_rng(7)
    specification = make.a_specification()
    state = reasoning.initial(specification)
    decisions: list[Decision] = []
    verdicts: list[Verdict] = []
    due: dict[int, Verdict] = {}
    for index in range(100, 1500):
        if index in due:
            verdicts.append(due.pop(index))
            state = reasoning.learn(state, verdicts[-1])
        lean = dice.normal(0.0, 1.0)
        evidence = make.evidence_of(lean + dice.standard_normal(10), index=index)
        decided = reasoning.decide(evidence, state)
        followed = abs(dice.normal()) * np.sign(lean) * (1 if dice.random() < skill else -1)
        due[decided.due_index] = make.verdict_of(decided, float(followed))
        state = reasoning.learn(state, decided)
        decisions.append(msgspec.structs.replace(decided, matches=Matches()))
    return decisions, verdicts


def test_on_random_outcomes_the_skill_interval_covers_zero() -> None:
    shuffled = judge.judge_decisions(*stream(0.5)).brier_skill
    assert shuffled
    assert shuffled.low <= 0.0 <= shuffled.high
    assert shuffled.value > -0.02
    real = judge.judge_decisions(*stream(0.8)).brier_skill
    assert real
    assert real.low > 0.1


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (1.0, 500.0), (0.01, -3.0)])
def test_unit_and_level_of_a_series_change_no_decision(factor: float, shift: float) -> None:
    def summaries(points: Points) -> list[tuple[object, ...]]:
        record = backtest.record(Walk({"u/a": points}, SPECIFICATION))
        return [(d.direction, d.reason, round(d.probability, 6)) for d in record.decisions]

    points = make.a_season(400)
    other = Points(points.times, points.values * factor + shift)
    assert summaries(other) == summaries(points)
