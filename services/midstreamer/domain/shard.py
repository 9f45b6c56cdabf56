"""Shards: runs of window positions of one series, and the agents that should hold them.

Shard ``number`` of a series owns the windows that *begin* at positions from ``number * points`` up
to, but not including, ``(number + 1) * points``. An agent that holds the shard also keeps `OVERLAP`
points after its end, so that every owned window and its outcome are complete. Positions are
positions in the series.

The owners depend on the list of agents only (rendezvous hashing), so all processes with the same
list compute the same owners. Each pair of an agent and a shard has a weight, and the agents with
the largest weights own the shard. A weight mixes the hash of the agent with the hash of the shard,
and each name is hashed only once. So the owners of 100,000 shards among 16 agents are found in
about 10 ms.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstreamer.domain.specification import HORIZON_MAX, WINDOW_MAX

OVERLAP = WINDOW_MAX - 1 + HORIZON_MAX
"""Points kept after the end of a shard: the rest of the last window, and its outcome."""
REPLICAS = 2
"""Number of agents that hold each shard."""

Hashes = NDArray[np.uint64]

_STRIDE = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio. Multiplying consecutive numbers by it spreads them evenly."""
_64_BITS = 2**64 - 1
"""Mask that keeps the low 64 bits."""


class Shard(msgspec.Struct, frozen=True, order=True):
    """A run of window positions of one series."""

    series: str
    number: int

    def first(self, points: int) -> int:
        """Return the first window position that the shard owns; ``points`` is its size."""
        return self.number * points

    def last(self, points: int) -> int:
        """Return one past the last window position that the shard owns."""
        return (self.number + 1) * points

    def stop(self, points: int) -> int:
        """Return one past the last point that the shard's windows and their outcomes need."""
        return self.last(points) + OVERLAP


def shards_of(series: str, count: int, points: int) -> list[Shard]:
    """Return all shards of a series that has ``count`` points."""
    return [Shard(series, number) for number in range((count + points - 1) // points)]


# --- owners of shards ---------------------------------------------------------------------------


def owners(shard: Shard, agents: Sequence[str], replicas: int = REPLICAS) -> list[str]:
    """Return the agents that should hold a shard, first choice first."""
    return owners_of([shard], agents, replicas)[0]


def owners_of(
    shards: Sequence[Shard], agents: Sequence[str], replicas: int = REPLICAS
) -> list[list[str]]:
    """Return the owners of each of these shards, first choice first."""
    if not agents:
        return [[] for _ in shards]
    # The sort by weight is stable: of agents with equal weights, the greater name comes first.
    descending = sorted(agents, reverse=True)
    weights = _weights(_hashes(shards), descending)
    order = np.argsort(~weights, axis=0, kind="stable")[:replicas].T
    return [[descending[place] for place in places] for places in order.tolist()]


def owned(
    agent: str,
    counts: Mapping[str, int],
    points: int,
    agents: Sequence[str],
    replicas: int = REPLICAS,
) -> list[Shard]:
    """Return the shards that ``agent`` should hold.

    ``counts`` gives the number of points of each series, and ``points`` the size of a shard.
    """
    series = list(counts)
    lengths = [-(-counts[name] // points) for name in series]
    series_of = np.repeat(np.arange(len(series)), lengths)
    begins = np.cumsum(lengths, dtype=np.int64) - lengths
    numbers = np.arange(len(series_of)) - np.repeat(begins, lengths)
    name_hashes = np.array([_hash(name) for name in series], dtype=np.uint64)
    weights = _weights(
        _numbered(name_hashes[series_of], numbers.astype(np.uint64)), [agent, *agents]
    )
    rivals = np.zeros(len(series_of), dtype=np.int64)
    for name, weight in zip(agents, weights[1:], strict=True):
        if name != agent:
            rivals += (weight > weights[0]) if name < agent else (weight >= weights[0])
    mine = np.flatnonzero(rivals < replicas)
    return [
        Shard(series[at], number)
        for at, number in zip(series_of[mine].tolist(), numbers[mine].tolist(), strict=True)
    ]


def digest(shards: Iterable[Shard]) -> int:
    """Return a 64-bit digest of a set of shards, for comparing two sets: the xor of their hashes.

    The order does not matter. To update a digest after some shards were added or removed, xor it
    with the digest of these shards.
    """
    hashes = _hashes(list(shards))
    return int(np.bitwise_xor.reduce(hashes)) if hashes.size else 0


def fingerprint(shard: Shard) -> int:
    """Return the `digest` of a single shard, computed without numpy, which is faster here."""
    bits = (_hash(shard.series) + shard.number * _STRIDE) & _64_BITS
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return bits ^ (bits >> 31)


def agents_digest(agents: Iterable[str]) -> str:
    """Return a digest of a set of agents, for comparing two sets; the order does not matter."""
    lines = "\n".join(sorted(agents)).encode()
    return hashlib.blake2b(lines, digest_size=16).hexdigest()


def _hashes(shards: Sequence[Shard]) -> Hashes:
    """Return the hash of each shard, uint64, shape (shards,)."""
    name_hashes = np.array([_hash(shard.series) for shard in shards], dtype=np.uint64)
    numbers = np.array([shard.number & _64_BITS for shard in shards], dtype=np.uint64)
    return _numbered(name_hashes, numbers)


def _numbered(series: Hashes, numbers: Hashes) -> Hashes:
    """Return the hash of each shard, given the hash of its series' name and its shard number."""
    return _mixed(series + numbers * np.uint64(_STRIDE))


def _weights(shards: Hashes, agents: Sequence[str]) -> Hashes:
    """Return the weight of each agent for each shard, uint64, shape (agents, shards).

    The agents with the largest weights for a shard should hold this shard (rendezvous hashing).
    """
    name_hashes = np.array([_hash(name) for name in agents], dtype=np.uint64)
    return _mixed(name_hashes[:, None] ^ shards[None, :])


def _mixed(bits: Hashes) -> Hashes:
    """Return each number mixed so that every output bit depends on every input bit.

    This is the finaliser of splitmix64.
    """
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@functools.lru_cache(1 << 17)
def _hash(name: str) -> int:
    """Return a 64-bit hash of the whole name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
