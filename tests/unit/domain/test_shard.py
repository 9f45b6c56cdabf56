"""Shards and the agents that own them: each window position belongs to exactly one shard."""

import itertools
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain import shard

agents = st.lists(
    st.text("abcdef0123456789", min_size=1, max_size=8), unique=True, min_size=1, max_size=8
)


@given(count=st.integers(0, 10_000), points=st.integers(1, 2_000))
def test_every_position_is_owned_once(count: int, points: int) -> None:
    shards = shard.shards_of("u/s", count, points)
    owned = [p for s in shards for p in (s.first(points), s.last(points))]
    assert owned == sorted(owned)
    assert not shards or (shards[0].first(points) == 0 and shards[-1].last(points) >= count)
    assert all(a.last(points) == b.first(points) for a, b in itertools.pairwise(shards))


@given(names=agents, number=st.integers(0, 100))
def test_the_order_of_agents_does_not_matter(names: list[str], number: int) -> None:
    owned = shard.Shard("u/s", number)
    assert shard.owners(owned, names) == shard.owners(owned, sorted(names, reverse=True))
    assert len(shard.owners(owned, names)) == min(shard.REPLICAS, len(names))


@given(names=agents, number=st.integers(0, 100))
def test_an_agent_that_leaves_moves_only_its_own_shards(names: list[str], number: int) -> None:
    owned = shard.Shard("u/s", number)
    before = shard.owners(owned, names)
    leaver = names[0]
    after = shard.owners(owned, [name for name in names if name != leaver])
    kept = [name for name in before if name != leaver]
    assert after[: len(kept)] == kept


def test_shards_spread_over_agents() -> None:
    names = ["agent/a1", "agent/a2", "agent/a3"]
    held = [shard.owners(shard.Shard(f"u/s{i}", j), names)[0] for i in range(20) for j in range(3)]
    assert all(held.count(name) >= 10 for name in names)


def pods(count: int) -> list[str]:
    """Return names of agents in a cluster, which begin with the same text of more than 64 bytes."""
    first = "agent/prod-namespace/midstreamer-agents-7d9f8b6c5d-x2x4z-of-the-production-cluster"
    return [f"{first}/{uuid.UUID(int=place)}" for place in range(count)]


def shares(names: list[str]) -> list[int]:
    counts = {f"u/s{place}": 1000 for place in range(1000)}
    return [len(shard.owned(name, counts, 100, names)) for name in names]


@pytest.mark.parametrize("agents", [3, 5, 16])
def test_agents_named_as_pods_are_get_about_as_many_shards_each(agents: int) -> None:
    held = shares(pods(agents))
    assert sum(held) == 10_000 * shard.REPLICAS
    assert max(held) <= 1.3 * sum(held) / agents


def test_when_one_agent_comes_only_the_shards_it_takes_move() -> None:
    before, names = pods(5), pods(6)
    shards = shard.shards_of("u/s", 10_000, 10)
    now = shard.owners_of(shards, names)
    moved = [
        (set(old), set(new))
        for old, new in zip(shard.owners_of(shards, before), now, strict=True)
        if set(old) != set(new)
    ]
    assert all(names[5] in new and len(old & new) == 1 for old, new in moved)
    assert len(moved) == sum(names[5] in new for new in now) <= 1.3 * 2000 / 6


@given(names=agents, points=st.integers(1, 50), counts=st.lists(st.integers(0, 200), max_size=5))
def test_many_shards_have_the_owners_that_each_has(
    names: list[str], points: int, counts: list[int]
) -> None:
    of = {f"u/{place}": count for place, count in enumerate(counts)}
    every = [
        piece for series, count in of.items() for piece in shard.shards_of(series, count, points)
    ]
    each = [shard.owners(piece, names) for piece in every]
    assert shard.owners_of(every, names) == each
    for name in names:
        own = [piece for piece, has in zip(every, each, strict=True) if name in has]
        assert shard.owned(name, of, points, names) == own


@given(st.lists(st.builds(shard.Shard, st.text(max_size=3), st.integers(0, 9)), unique=True))
def test_a_digest_tells_sets_apart_and_not_orders(shards: list[shard.Shard]) -> None:
    assert shard.digest(shards) == shard.digest(reversed(shards))
    for place in range(len(shards)):
        rest = shards[:place] + shards[place + 1 :]
        assert shard.digest(rest) == shard.digest(shards) ^ shard.fingerprint(shards[place])
        assert shard.digest(rest) != shard.digest(shards)
