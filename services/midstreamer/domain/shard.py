"""Shards: runs of window positions of one series, and who should hold them.

Shard ``number`` of a series owns the windows that *begin* in
``[number * points, (number + 1) * points)``; whoever holds it also keeps `OVERLAP` points
behind its end, so that no window and no outcome is cut.  Positions are absolute.

Owners follow from the list of agents alone (rendezvous hashing), so nobody has to agree on
anything: each pair of an agent and a shard has a weight, and the agents of the largest weights own
the shard.  Every name is hashed whole, once; a weight is two such hashes mixed.  So the owners of
100,000 shards among 16 agents are found in some ten milliseconds.
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
REPLICAS = 2

Hashes = NDArray[np.uint64]

_STRIDE = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio: consecutive numbers times it are spread evenly."""
_64_BITS = 2**64 - 1


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


# --- who holds what -----------------------------------------------------------------------------


def owners(shard: Shard, agents: Sequence[str], replicas: int = REPLICAS) -> list[str]:
    """The agents that should hold a shard, first choice first."""
    return owners_of([shard], agents, replicas)[0]


def owners_of(
    shards: Sequence[Shard], agents: Sequence[str], replicas: int = REPLICAS
) -> list[list[str]]:
    """The owners of each of these shards, first choice first."""
    if not agents:
        return [[] for _ in shards]
    named = sorted(agents, reverse=True)  # equal weights: the later name comes first
    weights = _weights(_hashes(shards), named)
    order = np.argsort(~weights, axis=0, kind="stable")[:replicas].T
    return [[named[place] for place in places] for places in order.tolist()]


def owned(
    agent: str,
    counts: Mapping[str, int],
    points: int,
    agents: Sequence[str],
    replicas: int = REPLICAS,
) -> list[Shard]:
    """Of the shards of series with so many points each, those that an agent should hold."""
    series = list(counts)
    lengths = [-(-counts[name] // points) for name in series]
    of = np.repeat(np.arange(len(series)), lengths)
    begins = np.cumsum(lengths, dtype=np.int64) - lengths
    numbers = np.arange(len(of)) - np.repeat(begins, lengths)
    named = np.array([_hash(name) for name in series], dtype=np.uint64)
    weights = _weights(_numbered(named[of], numbers.astype(np.uint64)), [agent, *agents])
    before = np.zeros(len(of), dtype=np.int64)
    for name, weight in zip(agents, weights[1:], strict=True):
        if name != agent:
            before += (weight > weights[0]) if name < agent else (weight >= weights[0])
    mine = np.flatnonzero(before < replicas)
    return [
        Shard(series[at], number)
        for at, number in zip(of[mine].tolist(), numbers[mine].tolist(), strict=True)
    ]


def digest(shards: Iterable[Shard]) -> int:
    """What tells two sets of shards apart: whatever their order, 64 bits, the hashes xored.

    Of two sets that share no shard it is the digest of one xor that of the other, so it can be
    kept up to date as shards come and go.
    """
    hashes = _hashes(list(shards))
    return int(np.bitwise_xor.reduce(hashes)) if hashes.size else 0


def fingerprint(shard: Shard) -> int:
    """The digest of one shard, without numpy's cost of a call."""
    bits = (_hash(shard.series) + shard.number * _STRIDE) & _64_BITS
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return bits ^ (bits >> 31)


def agents_digest(agents: Iterable[str]) -> str:
    """What tells two lists of agents apart, whatever their order."""
    named = "\n".join(sorted(agents)).encode()
    return hashlib.blake2b(named, digest_size=16).hexdigest()


def _hashes(shards: Sequence[Shard]) -> Hashes:
    named = np.array([_hash(shard.series) for shard in shards], dtype=np.uint64)
    numbers = np.array([shard.number & _64_BITS for shard in shards], dtype=np.uint64)
    return _numbered(named, numbers)


def _numbered(series: Hashes, numbers: Hashes) -> Hashes:
    return _mixed(series + numbers * np.uint64(_STRIDE))


def _weights(shards: Hashes, agents: Sequence[str]) -> Hashes:
    """One row for each agent, one column for each shard."""
    named = np.array([_hash(name) for name in agents], dtype=np.uint64)
    return _mixed(named[:, None] ^ shards[None, :])


def _mixed(bits: Hashes) -> Hashes:
    """Each number with every bit depending on all of its bits: the finaliser of splitmix64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@functools.lru_cache(1 << 17)
def _hash(name: str) -> int:
    """64 bits of the whole name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
