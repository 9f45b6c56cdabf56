"""Verdicts: the outcome of a decision, compared with its forecast. Abstentions get one too."""

from __future__ import annotations

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of a decision, compared with the forecast."""

    experience_id: bytes
    series: str
    time: int
    """Event time of the decision."""
    due_time: int
    """Event time of the tick that settled the decision."""
    change: float
    """The change over the horizon after the window, in the units of ``Decision.change``."""
    outcome: float
    """The change over the horizon after the window, divided by the decision's scale."""
    hit: bool
    """Whether the direction that the probability favoured was right; False for a change of zero."""
    covered: bool
    """Whether the change lay in the prediction interval."""
    brier: float
    """Brier score of the decision: (probability - rise)^2, where rise is 1 or 0."""
    brier_arms: tuple[float, ...]
    """Brier score of each arm (forecasting method), in the order of `reasoning.ARMS`."""
    winkler: float
    """Winkler (interval) score of the prediction interval, divided by the decision's scale."""
    void: bool = False
    """Whether the value that settles the decision cannot be compared, for example because it has no
    logarithm.

    The decision is then closed and nothing is learned from it. All numbers of a void verdict are 0;
    ``hit`` and ``covered`` are False and have no meaning.
    """
