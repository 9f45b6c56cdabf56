"""judge: a decision and the value that came, to a verdict. Exact, and never self-judged."""

from __future__ import annotations

import math

import numpy as np

from midstreamer.domain import outcome
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.verdict import Verdict


def judge(decision: Decision, value: float, due_time: int) -> Verdict:
    """Return the verdict on a decision.

    Parameters
    ----------
    decision
        One that settles: its window is part of a stored series.
    value
        The untransformed value at position ``decision.due_index`` of that series.
    due_time
        The event time of that value.

    Raises
    ------
    BadInput
        The decision never settles, the time is not after the decision's, or the value is not
        finite.

    A value that cannot be compared (`outcome.history`) gives a void verdict, and so does a decision
    with numbers too large to be squared: the tick is right, and refusing it would let anyone who
    asked a wrong question stop a series.
    """
    name = f"decision {decision.experience_id.hex()} of {decision.series or 'no series'}"
    if not decision.settles:
        raise BadInput(f"{name} never settles: its window is not part of a stored series")
    if due_time <= decision.time:
        raise BadInput(f"{name} at {decision.time} cannot be due at {due_time}: not later")
    if not math.isfinite(value):
        raise BadInput(f"{name}: the value {value} is not a finite number")
    reached = outcome.history(np.array([value]), decision.specification.transform)[0]
    if math.isnan(reached):
        return _void(decision, due_time)
    try:
        return _judged(decision, float(reached), due_time)
    except OverflowError:
        return _void(decision, due_time)


def _judged(decision: Decision, reached: float, due_time: int) -> Verdict:
    change = reached - decision.last
    rose = float(change > 0.0)
    favoured = change > 0.0 if decision.probability >= 0.5 else change < 0.0
    return Verdict(
        experience_id=decision.experience_id,
        series=decision.series,
        time=decision.time,
        due_time=due_time,
        change=change,
        outcome=change / decision.scale if decision.scale > 0.0 else 0.0,
        hit=favoured,
        covered=decision.low <= change <= decision.high,
        brier=(decision.probability - rose) ** 2,
        brier_arms=tuple((arm - rose) ** 2 for arm in decision.arms),
        winkler=_winkler(decision, change),
    )


def _void(decision: Decision, due_time: int) -> Verdict:
    """The one verdict of a decision that nothing can be said about any more."""
    return Verdict(
        experience_id=decision.experience_id,
        series=decision.series,
        time=decision.time,
        due_time=due_time,
        change=0.0,
        outcome=0.0,
        hit=False,
        covered=False,
        brier=0.0,
        brier_arms=(0.0,) * len(decision.arms),
        winkler=0.0,
        void=True,
    )


def _winkler(decision: Decision, change: float) -> float:
    """Interval score: the width, and what was missed times 2 / (1 - coverage)."""
    if decision.scale == 0.0 or not math.isfinite(decision.high - decision.low):
        return math.inf
    missed = max(decision.low - change, change - decision.high, 0.0)
    penalty = 2.0 / (1.0 - decision.specification.coverage) * missed
    return (decision.high - decision.low + penalty) / decision.scale
