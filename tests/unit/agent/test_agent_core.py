"""`Core`: the shards that an agent holds are determined by the events that the agent receives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.agent.ownership import (
    TOLD,
    Core,
    Dial,
    Drop,
    Effect,
    Filled,
    Grew,
    Joined,
    Load,
    Reached,
    Renew,
    Report,
    Surveyed,
    Torn,
)
from midstreamer.domain import shard as shards
from midstreamer.domain.shard import REPLICAS, Shard, agents_digest, owners, shards_of
from midstreamer.protocol.frames import Member

ME, OTHERS = "agent/a1", ("agent/a2", "agent/a3", "agent/a4")
POINTS = 10
COUNTS = {"u/a": 45, "u/b": 12}
ALL = [shard for series, count in COUNTS.items() for shard in shards_of(series, count, POINTS)]


def a_member(name: str, address: str = "", *, whole: tuple[str, ...] = (), at: int = 0) -> Member:
    return Member(name, "i", address, whole_for=agents_digest(whole) if whole else "", whole_at=at)


def a_core(*others: str) -> Core:
    core = Core(ME)
    core.handle(Joined(tuple(a_member(name) for name in (ME, *others)), 0))
    core.handle(Surveyed(COUNTS, POINTS))
    for shard in core.missing:
        core.handle(Filled(shard))
    return core


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
    core = Core(ME)
    core.handle(Joined((a_member(ME),), 0))
    wanted = loads(core.handle(Surveyed(COUNTS, POINTS)))
    assert wanted == set(ALL) == set(core.missing)
    assert not core.holdings
    assert core.handle(Filled(ALL[0])) == [Report(ALL[0], True)]
    assert core.holdings == (ALL[0],)
    assert (core.count, core.digest) == (1, shards.digest([ALL[0]]))


def test_the_lease_says_when_all_its_own_shards_are_whole() -> None:
    core = Core(ME)
    core.handle(Joined((a_member(ME),), 0))
    core.handle(Surveyed(COUNTS, POINTS, 7))
    for shard in ALL[:-1]:
        core.handle(Filled(shard))
        assert core.whole_for == ""
    assert Renew() in core.handle(Filled(ALL[-1]))
    assert (core.whole_for, core.whole_at) == (agents_digest([ME]), 7)
    core.handle(Grew({"u/c": 3}))
    core.handle(Reached(9))
    # The agent has read the feed up to position 9, but it has not loaded the new shard. So it is
    # complete only up to position 7, as before.
    assert (core.whole_for, core.whole_at) == (agents_digest([ME]), 7)
    core.handle(Filled(Shard("u/c", 0)))
    assert core.whole_at == 9
    assert Renew() in core.handle(Torn(ALL[0]))
    assert core.whole_for == ""


EVERYBODY = (ME, *OTHERS)


def grown(at: int) -> Core:
    """Return an agent that was alone and held every shard; then the agents in `OTHERS` joined.

    It has read the feed up to position `at`.
    """
    core = a_core()
    core.handle(Joined(tuple(a_member(name) for name in EVERYBODY), TOLD))
    core.handle(Reached(at))
    return core


def test_a_shard_is_kept_until_both_its_owners_hold_all_that_is_theirs() -> None:
    core = grown(at=5)
    foreign = next(shard for shard in ALL if ME not in owners(shard, EVERYBODY))
    first, second = owners(foreign, EVERYBODY)
    rest = [name for name in EVERYBODY if name not in (first, second)]
    members = [a_member(name) for name in rest]
    ready = (*members, a_member(first, whole=EVERYBODY, at=5), a_member(second))
    assert foreign not in drops(core.handle(Joined(ready, 6)))
    both = (*ready[:-1], a_member(second, whole=EVERYBODY, at=5))
    assert foreign in drops(core.handle(Joined(both, 7)))
    assert foreign not in core.holdings
    assert core.digest == shards.digest(core.holdings)


@pytest.mark.parametrize(
    ("complete_for", "at", "dropped"),
    [(EVERYBODY, 5, True), (EVERYBODY, 4, False), (OTHERS, 5, False)],
)
def test_what_is_held_of_an_older_list_or_was_held_too_early_does_not_count(
    complete_for: tuple[str, ...], at: int, dropped: bool
) -> None:
    core = grown(at=5)
    members = (a_member(ME), *(a_member(name, whole=complete_for, at=at) for name in OTHERS))
    assert bool(drops(core.handle(Joined(members, 6)))) is dropped


def test_its_own_shards_are_never_dropped() -> None:
    core = a_core(*OTHERS)
    core.handle(Reached(5))
    before = core.holdings
    members = (a_member(ME), *(a_member(name, whole=EVERYBODY, at=5) for name in OTHERS))
    assert drops(core.handle(Joined(members, 6))) == set()
    assert core.holdings == before


def test_a_list_older_than_the_feed_changes_nothing() -> None:
    core = grown(at=5)
    assert core.handle(Joined((a_member(ME),), 4)) == []
    assert core.members == tuple(a_member(name) for name in EVERYBODY)


def test_the_shards_of_a_dead_agent_go_to_the_others() -> None:
    core = a_core(*OTHERS)
    left = (ME, *OTHERS[1:])
    wanted = loads(core.handle(Joined(tuple(a_member(name) for name in left), TOLD)))
    assert wanted == {s for s in ALL if ME in owners(s, left)} - set(core.holdings)


def test_its_own_lapsed_lease_does_not_make_it_forget() -> None:
    core = a_core()
    core.handle(Joined((a_member(OTHERS[0]),), TOLD))
    assert core.holdings == tuple(sorted(ALL))


@given(steps=st.lists(st.integers(0, 35), max_size=8))
def test_growth_and_a_new_survey_load_the_same_shards(steps: list[int]) -> None:
    core, count = a_core(*OTHERS), COUNTS["u/b"]
    wanted = set(core.holdings)
    for step in steps:
        count += step
        wanted |= loads(core.handle(Grew({"u/b": count})))
    surveyed = Core(ME)
    surveyed.handle(Joined(tuple(a_member(name) for name in EVERYBODY), 0))
    assert wanted == loads(surveyed.handle(Surveyed({**COUNTS, "u/b": count}, POINTS)))


def test_a_torn_shard_is_not_reported_until_it_is_whole_again() -> None:
    core = a_core()
    assert Load(ALL[0]) in core.handle(Torn(ALL[0]))
    assert ALL[0] not in core.holdings
    core.handle(Filled(ALL[0]))
    assert ALL[0] in core.holdings


def test_coordinators_are_dialled_once() -> None:
    core, coordinator = a_core(), a_member("coordinator/c1", "host:1")
    assert Dial("host:1") in core.handle(Joined((a_member(ME), coordinator), TOLD))
    assert Dial("host:1") not in core.handle(Joined((a_member(ME), coordinator), TOLD))
    assert not core.leavable("host:1")


def test_a_coordinator_that_comes_back_is_dialled_again() -> None:
    core, coordinator = a_core(), a_member("coordinator/c1", "host:1")
    core.handle(Joined((a_member(ME), coordinator), TOLD))
    core.handle(Joined((a_member(ME),), TOLD))
    assert core.leavable("host:1")
    core.hung_up("host:1")
    assert Dial("host:1") in core.handle(Joined((a_member(ME), coordinator), TOLD))


def test_forgetting_begins_anew() -> None:
    core = a_core()
    core.reset()
    assert core.holdings == ()
    assert loads(core.handle(Surveyed(COUNTS, POINTS))) == set(ALL)


# tests of several agents that follow one feed


class Fleet:
    """Agents that read the same feed in order, each at its own pace."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.feed: list[tuple[Member, ...] | dict[str, int]] = []
        self.counts: dict[str, int] = {}
        self.leases: dict[str, Member] = {}
        self.cores: dict[str, Core] = {}
        self.dead: list[tuple[Core, int]] = []
        """The agents that died, each with the position of the feed at which it died."""
        self.read: dict[str, int] = {}
        self.loading: dict[str, set[Shard]] = {}

    def join(self, name: str) -> None:
        core = self.cores[name] = Core(name)
        self.read[name], self.loading[name] = len(self.feed), set()
        self.do(name, core.handle(Joined(tuple(self.leases.values()), len(self.feed))))
        self.do(name, core.handle(Surveyed(dict(self.counts), POINTS, len(self.feed))))
        self.renew(name)

    def leave(self, name: str) -> None:
        del self.leases[name]
        self.feed.append(tuple(self.leases.values()))
        self.dead.append((self.cores.pop(name), len(self.feed)))

    def renew(self, name: str) -> None:
        core = self.cores[name]
        lease = Member(name, "i", "", whole_for=core.whole_for, whole_at=core.whole_at)
        before = self.leases.get(name)
        self.leases[name] = lease
        if before is None or before.whole_for != lease.whole_for:
            self.feed.append(tuple(self.leases.values()))
        self.do(name, core.handle(Joined(tuple(self.leases.values()), len(self.feed))))

    def grow(self) -> None:
        series = self.dice.choice("abc")
        self.counts[series] = self.counts.get(series, 0) + self.dice.randint(1, 25)
        self.feed.append({series: self.counts[series]})

    def follow(self, name: str) -> None:
        """Let an agent read one to four more changes, so that agents are at different positions."""
        core, begin = self.cores[name], self.read[name]
        end = min(len(self.feed), begin + self.dice.randint(1, 4))
        for change in self.feed[begin:end]:
            event = Grew(change) if isinstance(change, dict) else Joined(change, TOLD)
            self.do(name, core.handle(event))
        self.read[name] = end
        self.do(name, core.handle(Reached(end)))

    def fill(self, name: str) -> None:
        if self.loading[name]:
            shard = self.dice.choice(sorted(self.loading[name]))
            self.loading[name].discard(shard)
            self.do(name, self.cores[name].handle(Filled(shard)))

    def do(self, name: str, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Load(shard):
                    self.loading[name].add(shard)
                case Drop(shard):
                    self.loading[name].discard(shard)
                case Report(shard, whole=False):
                    unheard = sum(
                        shard in core.holdings for core, at in self.dead if at > self.read[name]
                    )
                    assert self.holders(shard, name) + unheard >= REPLICAS

    def holders(self, shard: Shard, without: str) -> int:
        return sum(shard in core.holdings for name, core in self.cores.items() if name != without)

    def expendable(self, name: str) -> bool:
        """Return whether each shard of this agent keeps two holders when the agent dies."""
        return all(self.holders(shard, name) >= REPLICAS for shard in self.cores[name].holdings)


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 250))
def test_no_shard_is_dropped_that_two_others_do_not_hold(seed: int, steps: int) -> None:
    dice = random.Random(seed)
    fleet = Fleet(dice)
    for name in ("agent/1", "agent/2"):
        fleet.join(name)
    for _ in range(steps):
        name = dice.choice(sorted(fleet.cores))
        match dice.choices("jlrgfw", (1, 2, 6, 2, 8, 12))[0]:
            case "j" if len(fleet.cores) < 6:
                names = {f"agent/{number}" for number in range(1, 8)}
                fleet.join(dice.choice(sorted(names - fleet.cores.keys())))
            case "l" if len(fleet.cores) > 3 and fleet.expendable(name):
                fleet.leave(name)
            case "r":
                fleet.renew(name)
            case "g":
                fleet.grow()
            case "f":
                fleet.follow(name)
            case "w":
                fleet.fill(name)
