"""How much larger a state may become of what it has learned, without another decision.

Verdicts come whether anybody likes it or not, and what is kept is folded sooner or later: then a
new series joins the licence with a cell for each phase of the delay.  A state travels in one
frame, so whoever bounds its size must refuse a decision before that.  Hence the room for all of it
is counted in advance: encoded size and `room` together never grow but by a decision.
"""

from __future__ import annotations

from midstreamer.domain.state import State
from midstreamer.reasoning import learning, licence, tracker

KNOWN_BYTES, ARM_BYTES = 56, 9
"""Of a verdict that is kept, without the name of its series: at most so much, and for each arm."""
FOLDED_BYTES = 40
"""What a decision may gain by being folded: the key of `State.pending`, its epoch."""
JOINING_BYTES = 32
"""Of a series that is new: heads and a time; its name and its cells come on top."""
REST_BYTES = 512
"""Numbers and lengths that are written wider as they grow."""


def room(state: State) -> int:
    """Bytes that the encoded state may still grow by before it learns another decision."""
    open_ones = (*state.pending.values(), *state.waiting)
    names = sum(len(one.series) for one in open_ones) - sum(len(one.series) for one in state.known)
    verdicts = KNOWN_BYTES * (len(open_ones) - len(state.known)) + names
    verdicts += ARM_BYTES * sum(len(one.arms) for one in open_ones)
    verdicts -= ARM_BYTES * sum(len(one.losses) for one in state.known)
    arms = max((len(kept.arms) for kept in state.waiting), default=0)
    width = int(learning.losses(state).shape[1])
    wider = 8 * state.specification.horizon * max(0, arms - width)
    joining = {kept.series for kept in state.waiting}.difference(state.licence.series)
    cells = licence.CELL_BYTES * state.specification.horizon + JOINING_BYTES
    joined = sum(cells + 2 * len(name) for name in joining)
    recent = 4 * learning.DOUBTS_KEPT - len(state.doubts)
    recent += 8 * tracker.SCORES_KEPT - len(state.tracker.scores)
    return verdicts + wider + joined + FOLDED_BYTES * len(state.waiting) + recent + REST_BYTES
