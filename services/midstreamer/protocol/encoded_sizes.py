"""Upper estimates of encoded sizes, in bytes: they decide how many items fit into one frame.

Senders add up these estimates before they encode anything.  An estimate may be a little too high,
but never too low, and the limits below leave room in the frame.
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
"""Maximum bytes that all decisions of one Match may take, each counted by `decision_bytes_max`."""
EXPERIENCES_BYTES_MAX = FRAME_BYTES_MAX // 2
"""Maximum bytes of decisions and verdicts in one answer to a Lookup. The first experience is always
sent, however large."""

MATCH_BYTES = 34
"""Bytes of one analog in a decision: index of its series, start, time, distance and outcome."""
NAME_BYTES = NAME_CHARACTERS_MAX + 3
"""Maximum bytes of an encoded series name: its characters and a header of at most 3 bytes. In the
worst case, all analogs of a decision are from different series. So `decision_bytes_max` counts one
name for each analog."""
DECISION_BYTES = 768
"""Maximum bytes of a decision without its window and its analogs."""
COLUMN_BYTES = 256
"""Maximum bytes of a column without its ticks; the name of the series is included."""
SHARD_BYTES = 32
"""Maximum bytes of a shard without the name of its series."""
STATE_BYTES = 256
"""Maximum bytes of a `Learned` change without the encoded state."""
MEMBER_BYTES = 512
"""Maximum bytes of a member without its name, address and evidence."""


def decision_bytes_max(specification: Specification) -> int:
    """Return an upper estimate of the bytes of any decision under this specification."""
    matches = (MATCH_BYTES + NAME_BYTES) * specification.neighbours
    return DECISION_BYTES + 8 * specification.window + matches


def decision_bytes(decision: Decision) -> int:
    """Return an upper estimate of the bytes of this decision."""
    matches = decision.matches
    names = sum(NAME_BYTES - NAME_CHARACTERS_MAX + len(name) for name in matches.series)
    return DECISION_BYTES + len(decision.window) + MATCH_BYTES * len(matches) + names


def column_bytes(column: Column) -> int:
    """Return an upper estimate of the bytes of this column."""
    return COLUMN_BYTES + len(column.times) + len(column.values)


def shard_bytes(shard: Shard) -> int:
    """Return an upper estimate of the bytes of this shard; a shard is sent without its points."""
    return SHARD_BYTES + len(shard.series)


def change_bytes(change: Change) -> int:
    """Return an upper estimate of the bytes of this change of the feed."""
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
    """Return an upper estimate of the bytes of this member, with its evidence."""
    texts = (*member.evidence, *member.evidence.values(), member.name, member.address)
    return MEMBER_BYTES + sum(map(len, texts))
