"""The number and the size of leases are bounded, so that a list of all leases fits a frame."""

from __future__ import annotations

import pytest

from midstreamer.domain.errors import BadInput, Overloaded
from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec, frames
from midstreamer.protocol.capabilities import OURS
from midstreamer.protocol.frames import EVIDENCE_BYTES_MAX, Fleet, Member, Renew
from midstreamer.store.memory import MemoryStore
from midstreamer.sync import lease_limits
from tests.support.store_builders import a_sync

LARGEST = Member(
    f"agent/{'n' * 200}",
    "i" * 64,
    "a" * 242,
    2**62,
    2**62,
    {"engine": "e" * (EVIDENCE_BYTES_MAX - 6)},
    "d" * lease_limits.DIGEST_BYTES_MAX,
    2**62,
)


def a_member(**changes: object) -> Member:
    return Member(**({"name": "agent/a", "incarnation": "i", "address": ""} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (a_member(evidence={"diary": "x"}), "the evidence key 'diary' is unknown"),
        (a_member(evidence={"engine": "x" * 4100}), "4,106 B, at most 4,096 B"),
        (a_member(address="h" * 600), "take 608 B, at most 512 B"),
        (a_member(whole_for="f" * 65), "65 characters, at most 64"),
        (a_member(address="a\0b"), "cannot be printed"),
        (a_member(evidence={"engine": "\x1b[2J"}), "cannot be printed"),
        (a_member(position=2**63), "position is 9223372036854775808, only values from 0 to"),
        (a_member(held=-1), "held is -1, only values from 0 to"),
    ],
)
def test_a_lease_that_tells_too_much_is_refused(member: Member, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        lease_limits.check(member, (), members_max=9, capabilities=OURS)


def test_a_peer_of_the_previous_version_may_send_only_the_facts_of_that_version() -> None:
    lease_limits.check(a_member(evidence={"serial": "1", "engine": "numba"}), (), members_max=9)
    member = a_member(evidence={"stage": "draining"})
    with pytest.raises(BadInput, match="key 'stage' is unknown: .* known keys are bundle, eng"):
        lease_limits.check(member, (), members_max=9)
    lease_limits.check(member, (), members_max=9, capabilities=OURS)


def test_a_list_of_the_largest_leases_fits_a_frame() -> None:
    lease_limits.check(LARGEST, (), members_max=lease_limits.MEMBERS_MAX, capabilities=OURS)
    members = (LARGEST,) * lease_limits.MEMBERS_MAX
    assert codec.encode(Fleet(members=members, lease_s=3.0, shard_points=2048))
    assert codec.encode(frames.Changes(changes=(frames.Joined(members),)))


async def test_one_member_too_many_is_refused_until_another_leaves() -> None:
    async with a_sync(MemoryStore(), members_max=3) as fleet:
        peers = [await fleet.dial(Kind.AGENT, f"a{place}") for place in range(3)]
        for peer in peers[:2]:
            await peer.ask(Renew(member=a_member(name="")))
        with pytest.raises(Overloaded, match="3 members hold a lease, members_max=3: agent/a2"):
            await peers[2].ask(Renew(member=a_member(name="")))
        # A member that already holds a lease may renew it, although the number of leases is at its
        # limit.
        await peers[0].ask(Renew(member=a_member(name="")))
        await peers[1].ask(Renew(member=a_member(name=""), leaving=True))
        answer = await peers[2].ask(Renew(member=a_member(name="")))
    assert isinstance(answer, Fleet)
    assert [member.name for member in answer.members] == ["agent/a0", "agent/a2", "sync/sync-1"]
