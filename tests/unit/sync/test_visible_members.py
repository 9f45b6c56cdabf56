"""The list of the fleet's members that a peer gets depends on the peer's protocol version."""

from __future__ import annotations

from typing import Any, cast

import pytest

from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.capabilities import OURS, Capability
from midstreamer.protocol.frames import Joined, Member, Renew, Tail
from midstreamer.runtime.peer import Peer
from midstreamer.store.memory import MemoryStore
from midstreamer.sync import visible_members
from tests.support.store_builders import Fleet, a_sync


def a_member(name: str, stage: str = "serving") -> Member:
    return Member(name, "first", "", evidence={"stage": stage} if stage else {})


FLEET = (
    a_member("agent/a1"),
    a_member("agent/a2", "draining"),
    a_member("agent/a3", ""),
    a_member("coordinator/c1", "draining"),
    a_member("sync/s1"),
)


def test_a_peer_of_this_version_is_told_of_everybody() -> None:
    assert visible_members.visible(FLEET, OURS) == FLEET


def test_a_peer_of_the_version_before_is_told_of_no_sync_and_of_no_agent_that_drains() -> None:
    visible = visible_members.visible(FLEET, ())
    assert [member.name for member in visible] == ["agent/a1", "agent/a3", "coordinator/c1"]


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ("h:7400", "h:7400"),
        ("quic+wss://h:7400", "h:7400"),
        ("wss://h:7400", ""),
        ("gopher://h:7400", ""),
    ],
)
def test_a_peer_that_reads_no_carriers_is_told_where_quic_leads_to(
    served: str, expected: str
) -> None:
    fleet = (Member("coordinator/c1", "first", served),)
    assert [member.address for member in visible_members.visible(fleet, OURS)] == [served]
    for known in ((), [name for name in OURS if name != Capability.SCHEMES]):
        assert [member.address for member in visible_members.visible(fleet, known)] == [expected]


@pytest.mark.parametrize(
    ("others", "serves"),
    [((), False), (("sync/s2", "draining"), False), (("sync/s2", "serving"), True)],
)
def test_another_sync_counts_while_it_serves(others: tuple[str, ...], serves: bool) -> None:
    fleet = (*FLEET, a_member(*others)) if others else FLEET
    assert visible_members.others(fleet, "sync/s1") is serves


def test_an_unknown_name_gets_the_nearest_or_a_way_to_find_out() -> None:
    assert "did you mean agent/a1?" in visible_members.unknown("agnt/a1", FLEET).message
    assert "`midstreamer status`" in visible_members.unknown("x" * 10**6, FLEET).message
    assert "`midstreamer status`" in visible_members.unknown("agent/a1", ()).message


async def _everywhere(fleet: Fleet, *, old: bool) -> list[list[str]]:
    """Return the members' names in each of the four lists that a peer can get from sync.

    These are the answers to Renew and to Survey, the first page of a new feed, and a stored change
    in a feed that is resumed.
    """
    peer = await fleet.dial(Kind.AGENT, "a1", old=old)
    renewed = await peer.ask(Renew(member=Member("", "", "")))
    surveyed = await peer.ask(frames.Survey())
    begun = await _joined(peer, -1)
    stored = await _joined(peer, 1)
    listed = (cast(Any, renewed).members, cast(Any, surveyed).members, begun, stored)
    return [sorted(member.name for member in members) for members in listed]


async def _joined(peer: Peer, after: int) -> tuple[Member, ...]:
    follower = peer.follow(Tail(after=after))
    async for page in follower:
        for change in page.changes:
            assert isinstance(change, Joined)
            await follower.aclose()  # type: ignore[attr-defined]
            return change.members
    raise AssertionError


@pytest.mark.parametrize("old", [False, True])
async def test_every_way_of_telling_leaves_out_the_same_members(old: bool) -> None:
    store = MemoryStore()
    async with a_sync(store) as fleet:
        await store.renew(a_member("agent/a2", "draining"), 30.0)
        listed = await _everywhere(fleet, old=old)
    unseen = [] if old else ["agent/a2", "sync/sync-1"]
    assert listed[:3] == [sorted(["agent/a1", *unseen])] * 3
    assert listed[3] == sorted(unseen)  # this change was stored before agent/a1 joined
