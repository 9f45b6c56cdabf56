"""A draining agent leaves only after the other agents have loaded its shards."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest

from midstreamer.agent import ownership
from midstreamer.agent.ownership import Core
from midstreamer.domain.shard import Shard, agents_digest
from midstreamer.protocol.frames import Member

COUNTS = {f"u/s{number}": 1000 for number in range(6)}
POINTS = 256


class _Fleet:
    """Agents that get each other's leases from the test: there is no sync and no clock."""

    def __init__(self, agents: int) -> None:
        self.cores: dict[str, Core] = {}
        self.draining: set[str] = set()
        self.drained: set[str] = set()
        self.position = 0
        self.loading: list[tuple[str, Shard]] = []
        for number in range(agents):
            self.join(f"agent/a{number}")
        self.settle()

    def join(self, name: str) -> None:
        self.cores[name] = Core(name)
        self.tell()
        self.give(name, ownership.Surveyed(COUNTS, POINTS, self.position))

    def drain(self, name: str) -> None:
        self.draining.add(name)
        self.give(name, ownership.Draining())
        self.tell()

    def leave(self, name: str) -> None:
        del self.cores[name]
        self.draining.discard(name)
        self.drained.discard(name)
        self.loading = [(who, shard) for who, shard in self.loading if who != name]
        self.tell()

    def tell(self) -> None:
        """Give the leases of all agents to every agent."""
        members = tuple(self.leases())
        self.position += 1
        for name in list(self.cores):
            self.give(name, ownership.Joined(members, ownership.TOLD))
            self.give(name, ownership.Reached(self.position))

    def leases(self) -> Iterator[Member]:
        for name, core in self.cores.items():
            stage = "draining" if name in self.draining else "serving"
            yield Member(
                name, "i", "", evidence={"stage": stage},
                whole_for=core.whole_for, whole_at=core.whole_at,
            )  # fmt: skip

    def give(self, name: str, event: ownership.Event) -> None:
        for effect in self.cores[name].handle(event):
            match effect:
                case ownership.Load(shard):
                    self.loading.append((name, shard))
                case ownership.Drained():
                    self.drained.add(name)

    def step(self, dice: random.Random) -> None:
        """Let one event happen: an agent finishes loading a shard, or the leases are sent."""
        if self.loading and dice.random() < 0.9:
            name, shard = self.loading.pop(dice.randrange(len(self.loading)))
            self.give(name, ownership.Filled(shard))
        else:
            self.tell()

    def settle(self) -> None:
        dice = random.Random(1)
        for _ in range(2000):
            if not self.loading:
                break
            self.step(dice)
        for _ in range(3):
            self.tell()

    def copies(self) -> dict[Shard, int]:
        held = [shard for core in self.cores.values() for shard in core.holdings]
        return {shard: held.count(shard) for shard in held}


def test_an_agent_that_drains_waits_until_the_others_hold_its_shards() -> None:
    fleet = _Fleet(3)
    fleet.drain("agent/a0")
    assert fleet.drained == set()
    assert fleet.cores["agent/a0"].left > 0
    held = fleet.cores["agent/a0"].holdings
    fleet.settle()
    assert fleet.drained == {"agent/a0"}
    assert fleet.cores["agent/a0"].left == 0
    assert fleet.cores["agent/a0"].holdings == held


def test_a_draining_agent_owns_no_new_shards() -> None:
    fleet = _Fleet(3)
    fleet.drain("agent/a0")
    fleet.settle()
    for name in fleet.cores:
        fleet.give(name, ownership.Grew({"u/new": 5000}))
    assert {name for name, shard in fleet.loading if shard.series == "u/new"} == {
        "agent/a1",
        "agent/a2",
    }


def test_the_only_agent_waits_for_nobody() -> None:
    fleet = _Fleet(1)
    fleet.drain("agent/a0")
    assert fleet.drained == {"agent/a0"}


def test_agents_that_all_drain_wait_for_nobody() -> None:
    fleet = _Fleet(3)
    for name in list(fleet.cores):
        fleet.drain(name)
    assert fleet.drained == set(fleet.cores)


def test_a_lease_that_says_it_drains_is_understood_by_agents_that_tell_their_stage() -> None:
    fleet = _Fleet(2)
    core = fleet.cores["agent/a0"]
    assert core.understood
    core.handle(ownership.Joined((*core.members, Member("agent/old", "i", "")), ownership.TOLD))
    assert not core.understood


@pytest.mark.parametrize("seed", range(30))
def test_no_shard_is_lost_while_agents_drain_and_join(seed: int) -> None:
    dice = random.Random(seed)
    fleet = _Fleet(dice.randint(3, 5))
    shards, names = set(fleet.copies()), 100
    for _ in range(6):
        serving = sorted(fleet.cores.keys() - fleet.draining)
        if len(serving) > 2 and dice.random() < 0.6:
            fleet.drain(dice.choice(serving))
        else:
            names += 1
            fleet.join(f"agent/a{names}")
        for _ in range(dice.randint(0, 60)):
            fleet.step(dice)
            for name in sorted(fleet.drained):
                fleet.leave(name)
            assert set(fleet.copies()) == shards, f"seed {seed}"
    fleet.settle()
    assert fleet.drained == fleet.draining, f"seed {seed}"


def test_an_agent_complete_before_the_last_position_need_not_renew_again() -> None:
    # A new position alone is no reason for an agent to renew its lease early. So the leases of the
    # other two agents may name an older position. A drain must accept these leases, and must not
    # wait for leases with a newer position.
    fleet = _Fleet(3)
    leases = {member.name: member for member in fleet.leases()}
    fleet.draining.add("agent/a0")
    core = fleet.cores["agent/a0"]
    core.handle(ownership.Reached(fleet.position + 100))
    fleet.give("agent/a0", ownership.Draining())
    digest = agents_digest(["agent/a1", "agent/a2"])
    members = tuple(
        msgspec.structs.replace(leases[name], whole_for=digest, whole_at=fleet.position)
        for name in ("agent/a1", "agent/a2")
    )
    fleet.give("agent/a0", ownership.Joined(members, ownership.TOLD))
    assert fleet.drained == {"agent/a0"}


def test_an_agent_complete_before_the_newest_shard_must_renew_again() -> None:
    fleet = _Fleet(3)
    core, before = fleet.cores["agent/a0"], fleet.position
    fleet.give("agent/a0", ownership.Grew({"u/s0": 5000}))
    core.handle(ownership.Reached(before + 100))
    fleet.give("agent/a0", ownership.Draining())
    digest = agents_digest(["agent/a1", "agent/a2"])
    members = tuple(
        Member(name, "i", "", whole_for=digest, whole_at=before)
        for name in ("agent/a1", "agent/a2")
    )
    fleet.give("agent/a0", ownership.Joined(members, ownership.TOLD))
    assert fleet.drained == set()
