"""Verdicts: what became of a decision, once its outcome was known. One each, abstentions too."""

from __future__ import annotations

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """The outcome beside what was foretold."""

    experience_id: bytes
    series: str
    time: int
    """Event time of the decision."""
    due_time: int
    """Event time of the tick that settled it."""
    change: float
    """What happened, in the units of Decision.change."""
    outcome: float
    """The same in units of the decision's scale."""
    hit: bool
    """Whether the side that the probability favoured came (a change of zero never hits)."""
    covered: bool
    """Whether the change fell into the prediction interval."""
    brier: float
    """(probability - rise)^2 of the mixture."""
    brier_arms: tuple[float, ...]
    """The same for each arm, in the order of reasoning.ARMS."""
    winkler: float
    """Interval score of the prediction interval, in units of the decision's scale."""
    void: bool = False
    """The value that came cannot judge (no logarithm where one is asked): the decision is over and
    taught nothing; every number above is 0, ``hit`` and ``covered`` are False and say nothing."""
