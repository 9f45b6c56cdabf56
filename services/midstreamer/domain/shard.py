"""Shards: runs of window positions of one series, and who should hold them.

Shard ``number`` of a series owns the windows that *begin* in
``[number * points, (number + 1) * points)``; whoever holds it also keeps `OVERLAP` points
behind its end, so that no window and no outcome is cut.  Positions are absolute.  Owners
follow from the list of agents alone (rendezvous hashing), so nobody has to agree on anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from midstreamer.domain.specification import HORIZON_MAX, WINDOW_MAX

OVERLAP = WINDOW_MAX - 1 + HORIZON_MAX
REPLICAS = 2


class Shard(msgspec.Struct, frozen=True, order=True):
    """A run of window positions of one series."""

    series: str
    number: int

    def first(self, points: int) -> int:
        """The first position owned, when a shard has ``points`` positions."""
        return self.number * points

    def last(self, points: int) -> int:
        """One past the last position owned."""
        return (self.number + 1) * points

    def stop(self, points: int) -> int:
        """One past the last point needed to compare and settle every owned window."""
        return self.last(points) + OVERLAP


def shards_of(series: str, count: int, points: int) -> list[Shard]:
    """All shards of a series that has ``count`` points."""
    return [Shard(series, number) for number in range((count + points - 1) // points)]


def owners(shard: Shard, agents: Sequence[str], replicas: int = REPLICAS) -> list[str]:
    """The agents that should hold a shard, first choice first (highest random weight)."""
    key = f"{shard.series}#{shard.number}".encode()

    def weight(agent: str) -> tuple[bytes, str]:
        return hashlib.blake2b(key, key=agent.encode()[:64], digest_size=8).digest(), agent

    return sorted(agents, key=weight, reverse=True)[:replicas]
