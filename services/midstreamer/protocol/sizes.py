"""Bytes on the wire, roughly and never too few: what is packed into frames is measured by these.

Sizes are summed before anything is encoded.  A sum may be a little too high; the bound it is held
against leaves room in the frame.
"""

from __future__ import annotations

from midstreamer.domain.decision import Decision
from midstreamer.domain.series import NAME_CHARACTERS_MAX, Column
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import Specification
from midstreamer.protocol.frames import (
    FRAME_BYTES_MAX,
    Change,
    Joined,
    Learned,
    Member,
    Points,
    Skipped,
)

ANSWER_BYTES_MAX = FRAME_BYTES_MAX * 3 // 4
"""What decisions may take of the frame that answers or stores them, by `decision_bytes_max`."""
EXPERIENCES_BYTES_MAX = FRAME_BYTES_MAX // 2
"""Of decisions and verdicts in one answer to a lookup; one experience always goes in."""

MATCH_BYTES = 34
"""Of one analog in a decision: which, start, time, distance, outcome."""
NAME_BYTES = NAME_CHARACTERS_MAX + 3
"""Of the name of a series, at most; each analog of a decision may be of another series."""
DECISION_BYTES = 768
"""Of all else in a decision beside its window and analogs, at most."""
COLUMN_BYTES = 256
"""Of a column without its ticks, the name of its series counted."""
SHARD_BYTES = 32
"""Of one shard without the name of its series."""
STATE_BYTES = 256
"""Of a learned state without the state itself."""
MEMBER_BYTES = 512
"""Of a member without its texts."""


def decision_bytes_max(specification: Specification) -> int:
    """The most that a decision of this specification takes."""
    matches = (MATCH_BYTES + NAME_BYTES) * specification.neighbours
    return DECISION_BYTES + 8 * specification.window + matches


def decision_bytes(decision: Decision) -> int:
    """Of one decision that was made."""
    matches = decision.matches
    names = sum(NAME_BYTES - NAME_CHARACTERS_MAX + len(name) for name in matches.series)
    return DECISION_BYTES + len(decision.window) + MATCH_BYTES * len(matches) + names


def column_bytes(column: Column) -> int:
    """Of the ticks of one series."""
    return COLUMN_BYTES + len(column.times) + len(column.values)


def shard_bytes(shard: Shard) -> int:
    """Of the name of one shard."""
    return SHARD_BYTES + len(shard.series)


def change_bytes(change: Change) -> int:
    """Of one change of the feed."""
    match change:
        case Points():
            return column_bytes(change.column)
        case Learned():
            return STATE_BYTES + len(change.state)
        case Joined():
            return sum(map(member_bytes, change.members))
        case Skipped():
            return len(change.kind)


def member_bytes(member: Member) -> int:
    """Of one member with its evidence."""
    texts = (*member.evidence, *member.evidence.values(), member.name, member.address)
    return MEMBER_BYTES + sum(map(len, texts))
