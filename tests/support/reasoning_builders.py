"""Builders for the reasoning tests: evidence, decisions and whole streams, without a fleet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midstreamer import reasoning
from midstreamer.domain import match, series
from midstreamer.domain.decision import Decision, Evidence
from midstreamer.domain.match import Match, Matches
from midstreamer.domain.series import Floats
from midstreamer.domain.specification import Scale, Specification, Transform
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from midstreamer.market.backtest import Points

HOUR = 3_600_000_000


def a_specification(**fields: object) -> Specification:
    """A small specification: windows of 8, horizon 3, ten analogs, no transform."""
    usual: dict[str, object] = {
        "window": 8,
        "horizon": 3,
        "neighbours": 10,
        "grid": 2,
        "band": 1,
        "transform": Transform.IDENTITY,
        "scale": Scale.DEVIATION,
        "target": 0.8,
    }
    return Specification("u", **usual | fields)  # type: ignore[arg-type]


def matches_of(outcomes: Sequence[float] | Floats) -> Matches:
    """Analogs with these outcomes, nearest first."""
    rows = [Match("u/past", at, at, float(at), float(o)) for at, o in enumerate(outcomes)]
    return match.from_rows(rows)


def evidence_of(
    outcomes: Sequence[float] | Floats,
    *,
    values: Sequence[float] | Floats | None = None,
    name: str = "u/a",
    index: int = 100,
    newest: bool = True,
    specification: Specification | None = None,
) -> Evidence:
    """Evidence for the window that ends at position ``index`` of a series with one tick an hour."""
    specification = specification or a_specification()
    shown = np.sin(np.arange(specification.window)) if values is None else values
    return Evidence(
        specification,
        series.window(shown, series=name, time=index * HOUR),
        matches_of(outcomes),
        index=index,
        newest=newest,
        ups=50,
        known=100,
        kernel="test",
    )


def value_for(decision: Decision, outcome: float) -> float:
    """Return the value that a series must reach so that the decision has this scaled outcome."""
    return decision.last + outcome * decision.scale


def verdict_of(decision: Decision, outcome: float) -> Verdict:
    """Return the verdict of a decision that is judged at its due time and has this outcome."""
    due = decision.time + decision.specification.horizon * HOUR
    return reasoning.judge(decision, value_for(decision, outcome), due)


def a_season(length: int, *, seed: int = 0, noise: float = 0.05) -> Points:
    """A daily wave with noise, one point an hour: its analogs predict it well."""
    dice = np.random.default_rng(seed)
    hours = np.arange(length)
    wave = np.sin(hours * (2 * np.pi / 24)) + 0.3 * np.sin(hours * (2 * np.pi / 168))
    return Points(hours * HOUR, 10.0 + wave + noise * dice.standard_normal(length))


def a_walk(length: int, *, seed: int = 0) -> Points:
    """A random walk, one point an hour: nothing predicts it."""
    steps = np.random.default_rng(seed).standard_normal(length)
    return Points(np.arange(length) * HOUR, 100.0 + steps.cumsum())


def learned_stream(count: int, *, seed: int = 0, skill: float = 0.9) -> State:
    """A state that learned ``count`` decisions; each was right with the probability ``skill``."""
    return streamed(reasoning.initial(a_specification()), 100, count, seed=seed, skill=skill)


def streamed(state: State, start: int, count: int, *, seed: int = 0, skill: float = 0.9) -> State:
    """Return the state after it has learned from ``count`` hours of a series.

    In each hour it first learns the verdict that is due, if any, and then a new decision.
    """
    dice = np.random.default_rng(seed)
    waiting: dict[int, tuple[Decision, float]] = {}
    for index in range(start, start + count):
        if index in waiting:
            decision, outcome = waiting.pop(index)
            state = reasoning.learn(state, verdict_of(decision, outcome))
        lean = dice.normal(0.0, 1.5)
        evidence = evidence_of(
            lean + dice.standard_normal(10), index=index, specification=state.specification
        )
        decision = reasoning.decide(evidence, state)
        right = dice.random() < skill
        outcome = float(np.copysign(abs(dice.normal()) + 0.1, lean if right else -lean))
        waiting[decision.due_index] = (decision, outcome)
        state = reasoning.learn(state, decision)
    return state
