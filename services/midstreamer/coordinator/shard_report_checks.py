"""Check the shards that an agent reports.  When a report is wrong, the link of the agent is closed
and the agent reports everything again on a new link."""

from __future__ import annotations

from collections.abc import Set

from midstreamer.coordinator.dispatch_events import Reported
from midstreamer.domain.series import NAME_CHARACTERS_MAX
from midstreamer.domain.shard import Shard


def objection(event: Reported, held: Set[Shard], digest: int, shards_max: int) -> str:
    """Return why a report of an agent is wrong; an empty string when the report is right.

    ``held`` is the coordinator's own set of the agent's shards; the report is applied to it
    already.  ``digest`` is the `domain.shard.digest` of ``held``.  The last page of a report names
    the count and digest of all shards of the agent: they must equal the count and digest of
    ``held``.
    """
    if len(held) > shards_max:
        return (
            f"{event.agent} reports more than {shards_max:,} shards, the limit for one agent: add"
            " agents"
        )
    if any(len(shard.series) > NAME_CHARACTERS_MAX for shard in event.shards):
        return f"{event.agent} reports a series of more than {NAME_CHARACTERS_MAX} characters"
    if event.count is None or (event.count, event.digest) == (len(held), digest):
        return ""
    return (
        f"{event.agent} says it holds {event.count} shards, digest {event.digest:016x}; this"
        f" coordinator knows {len(held)} of them, digest {digest:016x}"
    )
