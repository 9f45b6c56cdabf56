"""How much an encoded state may still grow without a new decision: an upper bound.

A decision that was learned makes its state grow again later: its verdict arrives, and a new series
adds cells to the licence. That later growth cannot be refused. But a state must fit into one frame,
so sync checks the size before it accepts a decision. Therefore `room` counts the later growth in
advance. A verdict or a new series uses up a part of `room`: it never makes the sum of encoded size
and `room` greater. Only a new decision does.
"""

from __future__ import annotations

from midstreamer.domain.state import State
from midstreamer.reasoning import interval_tracker, learning, licence

KNOWN_BYTES, ARM_BYTES = 56, 9
"""KNOWN_BYTES: encoded size in bytes of one verdict in `State.known`, without its losses.
ARM_BYTES: encoded size in bytes of one loss. A verdict has one loss for each arm."""
FOLDED_BYTES = 40
"""Bytes by which an encoded decision may grow when it moves from the tuple `State.waiting` to the
dict `State.pending`. The dict also stores a key, and `Pending.epoch` may become a longer number."""
JOINING_BYTES = 32
"""Bytes that a new series adds to an encoded state, without its name and its licence cells."""
REST_BYTES = 512
"""Bytes allowed for all other growth: msgpack needs more bytes for a greater number and for the
length of a longer list."""


def room(state: State) -> int:
    """Return by how many bytes the encoded state can grow at most without a new decision."""
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
    recent += 8 * interval_tracker.SCORES_KEPT - len(state.tracker.scores)
    return verdicts + wider + joined + FOLDED_BYTES * len(state.waiting) + recent + REST_BYTES
