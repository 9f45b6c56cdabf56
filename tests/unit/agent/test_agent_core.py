"""What an agent holds follows from what it is told, and from nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.agent.core import (
    Core,
    Dial,
    Drop,
    Effect,
    Filled,
    Grew,
    Joined,
    Load,
    Report,
    Surveyed,
    Torn,
)
from midstreamer.domain.shard import Shard, owners, shards_of
from midstreamer.protocol.frames import Member

ME, OTHERS = "agent/a1", ("agent/a2", "agent/a3", "agent/a4")
POINTS = 10
COUNTS = {"u/a": 45, "u/b": 12}
ALL = [shard for series, count in COUNTS.items() for shard in shards_of(series, count, POINTS)]


def a_member(name: str, *holdings: Shard, address: str = "") -> Member:
    return Member(name, "i", address, holdings=holdings)


def a_core(*others: str) -> Core:
    made = Core(ME)
    made.handle(Joined(tuple(a_member(name) for name in (ME, *others))))
    made.handle(Surveyed(COUNTS, POINTS))
    for shard in made.missing:
        made.handle(Filled(shard))
    return made


def loads(effects: list[Effect]) -> set[Shard]:
    return {effect.shard for effect in effects if isinstance(effect, Load)}


def drops(effects: list[Effect]) -> set[Shard]:
    return {effect.shard for effect in effects if isinstance(effect, Drop)}


def test_a_lone_agent_holds_everything() -> None:
    assert a_core().holdings == tuple(sorted(ALL))


def test_agents_hold_what_the_hash_gives_them() -> None:
    own = {shard for shard in ALL if ME in owners(shard, (ME, *OTHERS))}
    assert set(a_core(*OTHERS).holdings) == own != set(ALL)


def test_a_shard_is_reported_once_it_is_whole() -> None:
    made = Core(ME)
    made.handle(Joined((a_member(ME),)))
    wanted = loads(made.handle(Surveyed(COUNTS, POINTS)))
    assert wanted == set(ALL) == set(made.missing)
    assert not made.holdings
    assert made.handle(Filled(ALL[0])) == [Report()]
    assert made.holdings == (ALL[0],)


def test_a_shard_is_kept_until_two_others_report_it() -> None:
    made = a_core()
    joined = [a_member(name) for name in (ME, *OTHERS)]
    assert drops(made.handle(Joined(tuple(joined)))) == set()
    foreign = next(shard for shard in ALL if ME not in owners(shard, (ME, *OTHERS)))
    joined[1] = a_member(OTHERS[0], foreign)
    assert drops(made.handle(Joined(tuple(joined)))) == set()
    joined[2] = a_member(OTHERS[1], foreign)
    assert drops(made.handle(Joined(tuple(joined)))) == {foreign}
    assert foreign not in made.holdings


def test_its_own_shards_are_never_dropped() -> None:
    made = a_core(*OTHERS)
    before = made.holdings
    everybody = (a_member(ME), *(a_member(name, *ALL) for name in OTHERS))
    assert drops(made.handle(Joined(everybody))) == set()
    assert made.holdings == before


def test_who_dies_leaves_its_shards_to_the_others() -> None:
    made = a_core(*OTHERS)
    left = (ME, *OTHERS[1:])
    wanted = loads(made.handle(Joined(tuple(a_member(name) for name in left))))
    assert wanted == {s for s in ALL if ME in owners(s, left)} - set(made.holdings)


def test_its_own_lapsed_lease_does_not_make_it_forget() -> None:
    made = a_core()
    made.handle(Joined((a_member(OTHERS[0]),)))
    assert made.holdings == tuple(sorted(ALL))


@given(steps=st.lists(st.integers(0, 35), max_size=8))
def test_growing_and_surveying_come_to_the_same(steps: list[int]) -> None:
    grown, count = a_core(*OTHERS), COUNTS["u/b"]
    wanted = set(grown.holdings)
    for step in steps:
        count += step
        wanted |= loads(grown.handle(Grew("u/b", count)))
    surveyed = Core(ME)
    surveyed.handle(Joined(tuple(a_member(name) for name in (ME, *OTHERS))))
    assert wanted == loads(surveyed.handle(Surveyed({**COUNTS, "u/b": count}, POINTS)))


def test_a_torn_shard_is_not_reported_until_it_is_whole_again() -> None:
    made = a_core()
    assert made.handle(Torn(ALL[0])) == [Report(), Load(ALL[0])]
    assert ALL[0] not in made.holdings
    made.handle(Filled(ALL[0]))
    assert ALL[0] in made.holdings


def test_coordinators_are_dialled_once() -> None:
    made, coordinator = a_core(), a_member("coordinator/c1", address="host:1")
    assert Dial("host:1") in made.handle(Joined((a_member(ME), coordinator)))
    assert Dial("host:1") not in made.handle(Joined((a_member(ME), coordinator)))
    assert not made.leavable("host:1")


def test_a_coordinator_that_comes_back_is_dialled_again() -> None:
    made, coordinator = a_core(), a_member("coordinator/c1", address="host:1")
    made.handle(Joined((a_member(ME), coordinator)))
    made.handle(Joined((a_member(ME),)))
    assert made.leavable("host:1")
    made.hung_up("host:1")
    assert Dial("host:1") in made.handle(Joined((a_member(ME), coordinator)))


def test_forgetting_begins_anew() -> None:
    made = a_core()
    made.reset()
    assert made.holdings == ()
    assert loads(made.handle(Surveyed(COUNTS, POINTS))) == set(ALL)
