"""What can be wrong with what an agent says it holds: why its link is then closed."""

from __future__ import annotations

from collections.abc import Set

from midstreamer.coordinator.events import Reported
from midstreamer.domain.series import NAME_CHARACTERS_MAX
from midstreamer.domain.shard import Shard


def objection(event: Reported, held: Set[Shard], digest: int, shards_max: int) -> str:
    """Why a report cannot be believed, given what is held after it; empty when it can.

    Before the last page nothing is compared.
    """
    if len(held) > shards_max:
        return (
            f"{event.agent} reports more than {shards_max:,} shards, the most that are kept of one"
            " agent: add agents"
        )
    if any(len(shard.series) > NAME_CHARACTERS_MAX for shard in event.shards):
        return f"{event.agent} reports a series of more than {NAME_CHARACTERS_MAX} characters"
    if event.count is None or (event.count, event.digest) == (len(held), digest):
        return ""
    return (
        f"{event.agent} says it holds {event.count} shards, digest {event.digest:016x}; known here"
        f" are {len(held)}, digest {digest:016x}"
    )
