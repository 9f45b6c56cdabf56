"""Bound on the growth of an encoded state by events other than a new decision.

Verdicts always arrive, and kept decisions are folded sooner or later; then a new series adds a cell
to the licence for each phase. A state travels in one frame, so a limit on its size must be checked
before a decision is accepted. So `room` counts that growth in advance: the sum of the encoded size
and `room` grows only when a decision is added.
"""

from __future__ import annotations

from midstreamer.domain.state import State
from midstreamer.reasoning import learning, licence, tracker

KNOWN_BYTES, ARM_BYTES = 56, 9
"""Encoded size in bytes of a kept verdict without its losses, and of one arm's loss in it."""
FOLDED_BYTES = 40
"""Bytes that folding adds to a decision: its key in `State.pending`, and its epoch."""
JOINING_BYTES = 32
"""Bytes that a new series adds, without its name and its cells."""
REST_BYTES = 512
"""Allowance in bytes for numbers and lengths whose encoding widens as they grow."""


def room(state: State) -> int:
    """Return how many bytes the encoded state may grow before another decision is learned."""
    open_decisions = (*state.pending.values(), *state.waiting)
    names = sum(len(each.series) for each in open_decisions) - sum(
        len(each.series) for each in state.known
    )
    verdicts = KNOWN_BYTES * (len(open_decisions) - len(state.known)) + names
    verdicts += ARM_BYTES * sum(len(each.arms) for each in open_decisions)
    verdicts -= ARM_BYTES * sum(len(each.losses) for each in state.known)
    arms = max((len(kept.arms) for kept in state.waiting), default=0)
    width = int(learning.losses(state).shape[1])
    wider = 8 * state.specification.horizon * max(0, arms - width)
    joining = {kept.series for kept in state.waiting}.difference(state.licence.series)
    cells = licence.CELL_BYTES * state.specification.horizon + JOINING_BYTES
    joined = sum(cells + 2 * len(name) for name in joining)
    recent = 4 * learning.DOUBTS_KEPT - len(state.doubts)
    recent += 8 * tracker.SCORES_KEPT - len(state.tracker.scores)
    return verdicts + wider + joined + FOLDED_BYTES * len(state.waiting) + recent + REST_BYTES
