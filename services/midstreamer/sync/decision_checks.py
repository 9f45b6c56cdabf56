"""Checks that a decision may be stored.

The checks are small functions in a fixed order.  Each returns an error text, or an empty string
when its check passes; the first error text becomes the refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np

from midstreamer.domain import decision as decisions
from midstreamer.domain import specification as specifications
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput, shortened
from midstreamer.domain.series import (
    NO_64_BITS,
    Window,
    fits_64_bits,
    plain,
    qualified,
    universe_of,
)


def check_decision(decision: Decision) -> Decision:
    """Return the decision; if it names a series, replace each -0.0 in its window by 0.0.

    Series are stored with 0.0 in place of -0.0, and the window must equal the stored values.
    Raise BadInput when fields of the decision contradict each other or are out of bounds.
    """
    specifications.check(decision.specification)
    for find in _CHAIN:
        if fault := find(decision):
            raise BadInput(
                f"decision {decision.experience_id.hex()} of"
                f" {shortened(decision.series) or 'no series'} at {decision.time}: {fault}"
            )
    window = plain(np.frombuffer(decision.window, "<f8")).tobytes()
    # Without a series, the experience id is computed from the bytes of the window. So the bytes
    # must stay as they are, even if they contain -0.0; otherwise the id would be wrong.
    if window == decision.window or not decision.series:
        return decision
    return msgspec.structs.replace(decision, window=window)


def _window(decision: Decision) -> str:
    m = decision.specification.window
    held = len(decision.window)
    return "" if held == 8 * m else f"a window of {held} B is not {m} values"


def _id(decision: Decision) -> str:
    window = Window(decision.series, decision.time, decision.window)
    right = decisions.experience_id(decision.specification, window)
    return "" if right == decision.experience_id else f"its id should be {right.hex()}"


def _series(decision: Decision) -> str:
    if not decision.series:
        return "it has a position to be settled at and names no series" if decision.settles else ""
    if not decision.settles:
        return (
            "it names a series and has no position in it, so it could never be settled: append the"
            " window's ticks before the window is decided, or name no series"
        )
    if qualified(decision.series) != decision.series:
        return "its series lacks the universe"
    universe = decision.specification.universe
    right = universe_of(decision.series) == universe
    return "" if right else f"its specification is for the universe {shortened(universe)}"


def _time(decision: Decision) -> str:
    return "" if fits_64_bits(decision.time) else f"its time {NO_64_BITS}"


def _saying(decision: Decision) -> str:
    if (decision.direction is None) == (decision.reason is None):
        return (
            f"direction is {decision.direction} and reason is {decision.reason}: a signal has only"
            " a direction, an abstention only a reason"
        )
    numbers = (decision.probability, decision.confidence, decision.low, decision.high)
    if any(math.isnan(number) for number in numbers):
        return "a probability or a bound of its interval is not a number"
    return ""


def _arms(decision: Decision) -> str:
    arms = decision.arms
    if not 1 <= len(arms) <= decisions.ARMS_MAX:
        return f"it has {len(arms):,} arms, from 1 to {decisions.ARMS_MAX} are allowed"
    outside = next((arm for arm in arms if not 0.0 <= arm <= 1.0), None)
    return "" if outside is None else f"an arm is {outside}, which is no probability from 0 to 1"


_CHAIN: tuple[Callable[[Decision], str], ...] = (_window, _time, _id, _series, _saying, _arms)
