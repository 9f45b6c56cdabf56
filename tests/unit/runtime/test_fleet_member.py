"""`Membership` renews the lease of a process and gives the lease back at the end."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer.domain import errors
from midstreamer.protocol.capabilities import OURS, Capability
from midstreamer.protocol.frames import Answer, Fleet, Member, Renew
from midstreamer.runtime import fleet_member
from midstreamer.runtime.fleet_member import Membership


class Sync:
    """Stands for the session with sync and also for the peer that the session returns."""

    def __init__(self) -> None:
        self.renewals: list[Renew] = []
        self.peer: Sync | None = self
        self.capabilities = frozenset(OURS)
        self.came = asyncio.Event()
        self.error: errors.MidstreamerError | None = None
        self.lease_s = 30.0
        self.linked, self.answers = asyncio.Event(), asyncio.Event()
        self.linked.set()
        self.answers.set()

    async def live(self, budget_s: float) -> Sync:
        await self.linked.wait()
        return self

    async def ask(self, request: Renew, *, budget_s: float) -> Answer:
        self.renewals.append(request)
        self.came.set()
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return Fleet(members=(request.member,), lease_s=self.lease_s, shard_points=64)


def a_membership(sync: Sync, fleets: list[Fleet]) -> Membership:
    me = Member("agent/a1", "i", "")
    return Membership(sync, lambda: me, fleets.append)  # type: ignore[arg-type]


async def run_until_renewed(membership: Membership, sync: Sync, times: int) -> None:
    running = asyncio.ensure_future(membership.run())
    while len(sync.renewals) < times:
        sync.came.clear()
        await sync.came.wait()
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])


async def test_a_renewed_lease_is_held_and_the_fleet_is_told() -> None:
    sync, fleets = Sync(), list[Fleet]()
    membership = a_membership(sync, fleets)
    assert not membership.held()
    await run_until_renewed(membership, sync, 1)
    assert membership.held()
    assert [fleet.members[0].name for fleet in fleets] == ["agent/a1"]


async def test_a_change_is_sent_before_the_lease_must_be_renewed() -> None:
    sync = Sync()
    membership = a_membership(sync, [])
    membership.renew_soon()
    running = asyncio.ensure_future(membership.run())
    await sync.came.wait()
    membership.renew_soon()
    # The second renewal must come soon. Without `renew_soon` it would come only after about 10 s: a
    # lease lasts 30 s, and is renewed after a third of this time.
    async with asyncio.timeout(5):
        while len(sync.renewals) < 2:
            sync.came.clear()
            await sync.came.wait()
    running.cancel()
    await asyncio.wait([running])


async def test_a_renewal_that_fails_leaves_the_lease_to_run_out() -> None:
    sync = Sync()
    sync.error, sync.lease_s = errors.StoreError("away"), 0.0
    membership = a_membership(sync, [])
    await run_until_renewed(membership, sync, 1)
    assert not membership.held()


async def test_leaving_gives_the_lease_back() -> None:
    sync = Sync()
    membership = a_membership(sync, [])
    await run_until_renewed(membership, sync, 1)
    await membership.leave()
    assert sync.renewals[-1].leaving
    assert not membership.held()


async def test_leaving_does_not_wait_for_a_sync_that_is_away() -> None:
    sync = Sync()
    sync.peer = None
    await a_membership(sync, []).leave()
    assert sync.renewals == []


async def test_leaving_copes_with_a_refusal() -> None:
    sync = Sync()
    sync.error = errors.StoreError("away")
    await a_membership(sync, []).leave()
    assert len(sync.renewals) == 1
    assert fleet_member.LEAVE_S > 0


async def test_a_renewal_that_waits_for_a_link_takes_no_lease_after_leaving() -> None:
    sync = Sync()
    sync.peer = None
    sync.linked.clear()
    membership = a_membership(sync, [])
    running = asyncio.ensure_future(membership.run())
    await asyncio.sleep(0)
    await membership.leave()
    sync.linked.set()
    sync.peer = sync
    await asyncio.sleep(0)
    assert sync.renewals == []
    running.cancel()
    await asyncio.wait([running])


async def test_leaving_gives_back_what_could_not_be_given_back_before_and_only_that() -> None:
    sync = Sync()
    membership = a_membership(sync, [])
    sync.peer = None
    await membership.leave()
    sync.peer = sync
    await membership.leave()
    await membership.leave()
    assert [renewal.leaving for renewal in sync.renewals] == [True]


async def test_leaving_comes_after_a_renewal_that_is_under_way() -> None:
    sync = Sync()
    sync.answers.clear()
    membership = a_membership(sync, [])
    running = asyncio.ensure_future(membership.run())
    await sync.came.wait()
    leaving = asyncio.ensure_future(membership.leave())
    for _ in range(5):
        await asyncio.sleep(0)
    assert [renewal.leaving for renewal in sync.renewals] == [False]
    sync.answers.set()
    await leaving
    assert [renewal.leaving for renewal in sync.renewals] == [False, True]
    assert not membership.held()
    running.cancel()
    await asyncio.wait([running])


async def test_leaving_does_not_wait_long_for_a_sync_that_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_member, "LEAVE_S", 0.05)
    sync = Sync()
    sync.answers.clear()
    membership = a_membership(sync, [])
    running = asyncio.ensure_future(membership.run())
    await sync.came.wait()
    async with asyncio.timeout(5):
        await membership.leave()
    assert len(sync.renewals) == 1
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize(
    ("lacking", "kept"),
    [
        ((), {"stage", "engine", "outside"}),
        ((Capability.OUTSIDE,), {"stage", "engine"}),
        ((Capability.OUTSIDE, Capability.EVIDENCE), {"engine"}),
    ],
)
async def test_a_sync_of_an_older_version_is_told_only_what_it_takes(
    lacking: tuple[str, ...], kept: set[str]
) -> None:
    sync = Sync()
    sync.capabilities = frozenset(OURS) - set(lacking)
    evidence = {"stage": "serving", "engine": "numba", "outside": "lb.test:7400"}
    me = Member("coordinator/c1", "i", "10.0.0.1:7400", evidence=evidence)
    membership = Membership(sync, lambda: me, lambda _fleet: None)  # type: ignore[arg-type]
    await run_until_renewed(membership, sync, 1)
    assert sync.renewals[0].member.evidence.keys() == kept
