"""Shards and their owners: every window position has one shard, every shard its owners."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain import shard

agents = st.lists(
    st.text("abcdef0123456789", min_size=1, max_size=8), unique=True, min_size=1, max_size=8
)


@given(count=st.integers(0, 10_000), points=st.integers(1, 2_000))
def test_every_position_is_owned_once(count: int, points: int) -> None:
    made = shard.shards_of("u/s", count, points)
    owned = [p for s in made for p in (s.first(points), s.last(points))]
    assert owned == sorted(owned)
    assert not made or (made[0].first(points) == 0 and made[-1].last(points) >= count)
    assert all(a.last(points) == b.first(points) for a, b in itertools.pairwise(made))


@given(names=agents, number=st.integers(0, 100))
def test_the_order_of_agents_does_not_matter(names: list[str], number: int) -> None:
    one = shard.Shard("u/s", number)
    assert shard.owners(one, names) == shard.owners(one, sorted(names, reverse=True))
    assert len(shard.owners(one, names)) == min(shard.REPLICAS, len(names))


@given(names=agents, number=st.integers(0, 100))
def test_who_leaves_moves_only_its_own_shards(names: list[str], number: int) -> None:
    one = shard.Shard("u/s", number)
    before = shard.owners(one, names)
    leaver = names[0]
    after = shard.owners(one, [name for name in names if name != leaver])
    kept = [name for name in before if name != leaver]
    assert after[: len(kept)] == kept


def test_shards_spread_over_agents() -> None:
    names = ["agent/a1", "agent/a2", "agent/a3"]
    held = [shard.owners(shard.Shard(f"u/s{i}", j), names)[0] for i in range(20) for j in range(3)]
    assert all(held.count(name) >= 10 for name in names)
