"""judge: compute the verdict on a decision.

The only inputs are the decision and the tick that settles it.
"""

from __future__ import annotations

import math

import numpy as np

from midstreamer.domain import outcome
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.verdict import Verdict


def judge(decision: Decision, value: float, due_time: int) -> Verdict:
    """Return the verdict on a decision.

    A value that cannot be compared (`outcome.history`) gives a void verdict. So does a decision
    with numbers too large to be squared. If `judge` raised an error instead, sync would refuse
    the tick with the value, so any caller could stop a series by sending one bad window or value.

    Parameters
    ----------
    decision
        A decision whose window is part of a stored series.
    value
        The untransformed value at position ``decision.due_index`` of that series.
    due_time
        The event time of that value.

    Raises
    ------
    BadInput
        The decision never settles, ``due_time`` is not after the decision's time, or the value is
        not finite.
    """
    name = f"decision {decision.experience_id.hex()} of {decision.series or 'no series'}"
    if not decision.settles:
        raise BadInput(f"{name} never settles: its window is not part of a stored series")
    if due_time <= decision.time:
        raise BadInput(
            f"{name} at {decision.time} cannot be due at {due_time}: the due time must be later"
        )
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
    """Return the verdict, given the value that the series reached at the due time.

    ``reached`` is transformed as the specification says, for example to its logarithm.
    """
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
    """Return a void verdict, for a decision whose outcome cannot be computed."""
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
    """Return the interval score of a decision, divided by its scale; infinite without an interval.

    The score is the width of the interval, plus 2 / (1 - coverage) times the distance of the change
    from the interval.
    """
    if decision.scale == 0.0 or not math.isfinite(decision.high - decision.low):
        return math.inf
    missed = max(decision.low - change, change - decision.high, 0.0)
    penalty = 2.0 / (1.0 - decision.specification.coverage) * missed
    return (decision.high - decision.low + penalty) / decision.scale
