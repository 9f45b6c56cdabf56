"""decide: evidence and state in, one decision out. Nothing changes.

The forecast always comes, the signal only when nothing speaks against it: `CHECKS` is the
ordered chain of reasons for silence, first hit wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from midstreamer.domain import outcome
from midstreamer.domain.decision import Decision, Direction, Evidence, Reason, experience_id
from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Floats
from midstreamer.domain.state import State
from midstreamer.reasoning import forecast, learning, licence, mixture, tracker

LIBRARY = "reasoning/1"
"""Rises whenever the same evidence and state would give another decision."""

RANKED_MIN = 100
"""Earlier decisions needed to rank a confidence among."""


class Forecast(NamedTuple):
    """What is foretold, before anyone asks whether to say it."""

    arms: tuple[float, ...]
    probability: float
    change: float
    low: float
    high: float


class Case(NamedTuple):
    """All that the checks look at."""

    evidence: Evidence
    state: State
    scale: float
    rank: float
    high: float


def _flat_window(case: Case) -> Reason | None:
    return Reason.FLAT_WINDOW if case.scale == 0.0 else None


def _stale_data(case: Case) -> Reason | None:
    return None if case.evidence.newest else Reason.STALE_DATA


def _no_memory(case: Case) -> Reason | None:
    least = learning.analogs_min(case.evidence.specification)
    return Reason.NO_MEMORY if len(case.evidence.matches) < least else None


def _warming_up(case: Case) -> Reason | None:
    ranked = len(learning.doubts(case.state)) >= RANKED_MIN
    return None if ranked and case.state.tracker.width is not None else Reason.WARMING_UP


def _unbounded(case: Case) -> Reason | None:
    bounded = math.isfinite(case.high) and not case.state.tracker.capped
    return None if bounded else Reason.UNBOUNDED


def _unlicensed(case: Case) -> Reason | None:
    return None if case.state.licence.held else Reason.UNLICENSED


def _below_threshold(case: Case) -> Reason | None:
    bar = licence.bar(case.state.licence, case.evidence.specification.target)
    return Reason.BELOW_THRESHOLD if case.rank < bar else None


CHECKS: tuple[Callable[[Case], Reason | None], ...] = (
    _flat_window,
    _stale_data,
    _no_memory,
    _warming_up,
    _unbounded,
    _unlicensed,
    _below_threshold,
)
"""In the order of `Reason`."""


def decide(evidence: Evidence, state: State) -> Decision:
    """Return the decision that this evidence and this state lead to.

    The state is taken as of the window's time: verdicts due until then and decisions before it.

    Raises
    ------
    BadInput
        The evidence belongs to another specification, its window has another length, or a
        logarithm is asked of a value that has none.
    """
    window = _checked_window(evidence, state)
    known = learning.as_of(state, evidence.window.time)
    scale = outcome.scale_of(window, evidence.specification)
    made = _foretell(evidence, known, scale)
    doubt = min(made.probability, 1.0 - made.probability)
    rank = _rank(doubt, known)
    case = Case(evidence, known, scale, rank, made.high)
    reason = next((found for check in CHECKS if (found := check(case))), None)
    return Decision(
        experience_id=experience_id(evidence.specification, evidence.window),
        specification=evidence.specification,
        series=evidence.window.series,
        time=evidence.window.time,
        index=evidence.index,
        window=evidence.window.values,
        direction=None if reason else _side(made.probability),
        reason=reason,
        probability=made.probability,
        confidence=1.0 - doubt,
        rank=rank,
        change=made.change,
        low=made.low,
        high=made.high,
        last=float(window[-1]),
        scale=scale,
        arms=made.arms,
        judged=_judged(case),
        matches=evidence.matches,
        state_version=state.version,
        library=LIBRARY,
        kernel=evidence.kernel,
    )


def _checked_window(evidence: Evidence, state: State) -> Floats:
    specification = evidence.specification
    if specification != state.specification:
        raise BadInput(f"evidence for {specification.stream} meets the state of {state.stream}")
    values = evidence.window.array()
    if len(values) != specification.window:
        raise BadInput(
            f"window of {len(values)} values for {evidence.window.series or 'no series'}:"
            f" specification.window = {specification.window}"
        )
    return outcome.transformed(values, specification.transform)


def _foretell(evidence: Evidence, state: State, scale: float) -> Forecast:
    specification = evidence.specification
    outcomes = evidence.matches.outcome_array() if scale > 0.0 else np.empty(0)
    slope = mixture.slope(state.slope)
    arms = forecast.arms(outcomes, forecast.climatology(evidence), slope)
    phase = learning.phase_of(evidence.index, specification)
    losses = mixture.fitted(learning.losses(state)[phase].tolist(), len(arms))
    probability = mixture.mixed(arms, losses)
    low, middle, high = forecast.interval(outcomes, specification.coverage)
    # A negative width narrows, but no further than to a point.
    width = math.inf if state.tracker.width is None else state.tracker.width
    width = tracker.applied(width, low, high)
    if scale == 0.0:
        return Forecast(arms, probability, 0.0, -math.inf, math.inf)
    return Forecast(
        arms, probability, middle * scale, (low - width) * scale, (high + width) * scale
    )


def _rank(doubt: float, state: State) -> float:
    recent = learning.doubts(state)
    return float(np.count_nonzero(recent > np.float32(doubt))) / len(recent) if len(recent) else 0.0


def _judged(case: Case) -> bool:
    if case.evidence.index < 0 or any(check(case) for check in CHECKS[:4]):
        return False
    held = case.state.licence
    return licence.judged(case.rank, held=held.held, threshold=held.threshold)


def _side(probability: float) -> Direction:
    return Direction.LONG if probability >= 0.5 else Direction.SHORT
