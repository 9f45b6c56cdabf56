"""decide: compute one decision from evidence and state, without changing either.

Every decision has a forecast. It becomes a signal only when none of the `CHECKS` gives a reason to
abstain; the first reason found is the one reported.
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
from midstreamer.reasoning import forecast, interval_tracker, learning, licence, mixture

LIBRARY = "reasoning/1"
"""Version of the reasoning: raised when equal evidence and state would give another decision."""

RANKED_MIN = 100
"""Earlier decisions needed before a confidence can be ranked among them."""


class Forecast(NamedTuple):
    """The forecast of a decision, before it is decided whether to emit a signal."""

    arms: tuple[float, ...]
    probability: float
    change: float
    low: float
    high: float


class Case(NamedTuple):
    """The input of each check in `CHECKS`."""

    evidence: Evidence
    state: State
    scale: float
    rank: float
    high: float
    """Upper end of the prediction interval."""


def _flat_window(case: Case) -> Reason | None:
    """Return FLAT_WINDOW when the window does not vary."""
    return Reason.FLAT_WINDOW if case.scale == 0.0 else None


def _stale_data(case: Case) -> Reason | None:
    """Return STALE_DATA when the window does not end at the newest known point."""
    return None if case.evidence.newest else Reason.STALE_DATA


def _no_memory(case: Case) -> Reason | None:
    """Return NO_MEMORY when there are too few analogs."""
    least = learning.analogs_min(case.evidence.specification)
    return Reason.NO_MEMORY if len(case.evidence.matches) < least else None


def _warming_up(case: Case) -> Reason | None:
    """Return WARMING_UP when there are too few earlier decisions or verdicts."""
    enough = len(learning.doubts(case.state)) >= RANKED_MIN
    return None if enough and case.state.tracker.width is not None else Reason.WARMING_UP


def _unbounded(case: Case) -> Reason | None:
    """Return UNBOUNDED when the prediction interval is infinite or at its cap."""
    is_bounded = math.isfinite(case.high) and not case.state.tracker.capped
    return None if is_bounded else Reason.UNBOUNDED


def _unlicensed(case: Case) -> Reason | None:
    """Return UNLICENSED when the licence is not held."""
    return None if case.state.licence.held else Reason.UNLICENSED


def _below_threshold(case: Case) -> Reason | None:
    """Return BELOW_THRESHOLD when the confidence ranks below the threshold."""
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
"""The reasons to abstain, in the order of `Reason`. Each check returns its reason or None."""


def decide(evidence: Evidence, state: State) -> Decision:
    """Return the decision for this evidence and this state.

    The decision depends on the state as it was at the window's time. That state includes the
    verdicts due by this time and the decisions before this time.

    Raises
    ------
    BadInput
        The evidence belongs to another specification, the window has the wrong length, or a value
        of the window cannot be compared (`outcome.transformed`).
    """
    window = _checked_window(evidence, state)
    known_state = learning.as_of(state, evidence.window.time)
    scale = outcome.scale_of(window, evidence.specification)
    forecasted = _foretell(evidence, known_state, scale)
    doubt = min(forecasted.probability, 1.0 - forecasted.probability)
    rank = _rank(doubt, known_state)
    case = Case(evidence, known_state, scale, rank, forecasted.high)
    reason = next((found for check in CHECKS if (found := check(case))), None)
    return Decision(
        experience_id=experience_id(evidence.specification, evidence.window),
        specification=evidence.specification,
        series=evidence.window.series,
        time=evidence.window.time,
        index=evidence.index,
        window=evidence.window.values,
        direction=None if reason else _side(forecasted.probability),
        reason=reason,
        probability=forecasted.probability,
        confidence=1.0 - doubt,
        rank=rank,
        change=forecasted.change,
        low=forecasted.low,
        high=forecasted.high,
        last=float(window[-1]),
        scale=scale,
        arms=forecasted.arms,
        judged=_judged(case),
        matches=evidence.matches,
        state_version=state.version,
        library=LIBRARY,
        kernel=evidence.kernel,
    )


def _checked_window(evidence: Evidence, state: State) -> Floats:
    """Return the transformed window; raise BadInput if its length or a value is wrong.

    Raise BadInput also if evidence and state have different specifications.
    """
    specification = evidence.specification
    if specification != state.specification:
        raise BadInput(
            f"evidence for {specification.stream} cannot be used with the state of {state.stream}"
        )
    values = evidence.window.array()
    if len(values) != specification.window:
        raise BadInput(
            f"window of {len(values)} values for {evidence.window.series or 'no series'}:"
            f" send specification.window = {specification.window} values"
        )
    return outcome.transformed(values, specification.transform)


def _foretell(evidence: Evidence, state: State, scale: float) -> Forecast:
    """Return the forecast of one window; ``scale`` is the scale of the window, 0 if it is flat."""
    specification = evidence.specification
    outcomes = evidence.matches.outcome_array() if scale > 0.0 else np.empty(0)
    slope = mixture.slope(state.slope)
    arms = forecast.arms(outcomes, forecast.climatology(evidence), slope)
    phase = learning.phase_of(evidence.index, specification)
    losses = mixture.fitted(learning.losses(state)[phase].tolist(), len(arms))
    probability = mixture.mixed(arms, losses)
    low, middle, high = forecast.interval(outcomes, specification.coverage)
    # A negative width narrows the interval, at most until both ends are equal.
    width = math.inf if state.tracker.width is None else state.tracker.width
    width = interval_tracker.applied(width, low, high)
    if scale == 0.0:
        return Forecast(arms, probability, 0.0, -math.inf, math.inf)
    return Forecast(
        arms, probability, middle * scale, (low - width) * scale, (high + width) * scale
    )


def _rank(doubt: float, state: State) -> float:
    """Return the rank of a decision with this doubt; 0 without recent decisions.

    The rank is the share of recent decisions that were less confident: their doubt was greater.
    """
    recent = learning.doubts(state)
    return float(np.count_nonzero(recent > np.float32(doubt))) / len(recent) if len(recent) else 0.0


def _judged(case: Case) -> bool:
    """Return whether the verdict on this decision will count for the licence."""
    if case.evidence.index < 0 or any(check(case) for check in CHECKS[:4]):
        return False
    held = case.state.licence
    return licence.judged(case.rank, held=held.held, threshold=held.threshold)


def _side(probability: float) -> Direction:
    """Return the direction that the probability favours."""
    return Direction.LONG if probability >= 0.5 else Direction.SHORT
