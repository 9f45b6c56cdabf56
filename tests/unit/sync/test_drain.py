"""When sync drains, pending writes are committed and every peer moves to another sync."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from midstreamer.domain.errors import MidstreamerError, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Member, Points, Tail
from midstreamer.runtime import peer_server
from midstreamer.runtime.lifecycle import Stage
from midstreamer.runtime.peer import Peer, Session
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Transaction
from midstreamer.sync import link_drain
from tests.support.fleet import eventually
from tests.support.store_builders import Fleet, a_column, a_sync, a_write


class Held(MemoryStore):
    """A store whose transactions wait until `let` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        await self.let.wait()
        async with super().transaction() as writing:
            yield writing


async def ended(fleet: Fleet) -> None:
    assert fleet.running is not None
    async with asyncio.timeout(5):
        await fleet.running


@pytest.mark.parametrize("old", [False, True])
async def test_what_waits_is_committed_and_answered(old: bool) -> None:
    store = Held()
    async with a_sync(store, batch_rows=1) as fleet:
        peer = await fleet.dial(old=old)
        writes = [a_write(a_column(0, 1, name=f"test/S{at}")) for at in range(20)]
        asked = [asyncio.ensure_future(peer.ask(write)) for write in writes]
        await eventually(lambda: fleet.service._writes.depth == 19)
        fleet.life.drain("a test")
        await asyncio.sleep(0)
        store.let.set()
        answers = await asyncio.gather(*asked)
        await ended(fleet)
    assert [type(answer) for answer in answers] == [frames.Written] * 20
    assert len(store.series) == 20


async def test_the_only_sync_waits_for_no_follower_and_its_successor_goes_on() -> None:
    store = MemoryStore()
    async with a_sync(store) as fleet:
        peer = await fleet.dial()
        follower = peer.follow(Tail(after=0))
        await anext(follower)
        fleet.life.drain("a test")
        await ended(fleet)
        assert (fleet.life.stage, peer.leaving) == (Stage.STOPPED, True)
    assert store.leases.members() == ()
    async with a_sync(store) as successor:
        answer = await (await successor.dial()).ask(a_write(a_column(0, 1)))
        assert isinstance(answer, frames.Written)


async def test_a_new_link_is_refused_by_name_while_sync_drains() -> None:
    store = Held()
    async with a_sync(store) as fleet:
        peer = await fleet.dial()
        asked = asyncio.ensure_future(peer.ask(a_write(a_column(0, 1))))
        await eventually(lambda: peer.busy)
        fleet.life.drain("a test")
        await eventually(lambda: peer.leaving)
        with pytest.raises(MidstreamerError, match="about to stop"):
            await fleet.dial(name="c2")
        store.let.set()
        assert isinstance(await asked, frames.Written)


async def test_an_old_peer_is_answered_for_a_while_and_then_told_when_to_ask_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_drain, "GRACE_S", 0.05)
    store = Held()
    async with a_sync(store) as fleet:
        peer = await fleet.dial(old=True)
        first = asyncio.ensure_future(peer.ask(a_write(a_column(0, 1))))
        await eventually(lambda: peer.busy)
        fleet.life.drain("a test")
        refused = await _refusal(peer)
        store.let.set()
        assert isinstance(await first, frames.Written)
        await ended(fleet)
    assert refused.retry_after_s > 0
    assert peer.leaving is False


async def _refusal(peer: Peer) -> Unavailable:
    async with asyncio.timeout(5):
        while True:
            try:
                await peer.ask(frames.Survey())
            except Unavailable as error:
                return error


async def test_followers_and_writers_move_to_another_sync_and_miss_nothing() -> None:
    store = MemoryStore()
    async with a_sync(store) as one, a_sync(store, name="sync-2", network=one.network) as other:
        seen: list[int] = []
        position = 0

        async def follow(peer: Peer) -> None:
            nonlocal position
            async for page in peer.follow(Tail(after=position)):
                seen.extend(c.start for c in page.changes if isinstance(c, Points))
                position = page.position

        addresses = [one.service.address, other.service.address]
        session = Session(
            one.carrier(Kind.COORDINATOR, "c1"), addresses, expect=Kind.SYNC, opened=follow
        )
        running = asyncio.create_task(session.run())
        for at in range(60):
            if at == 20:
                first = await session.live(1.0)
                draining = one if first.identity.name == "sync/sync-1" else other
                draining.life.drain("a test")
            await session.ask(a_write(a_column(at, at + 1)), budget_s=5)
        await eventually(lambda: len(seen) >= 60)
        await ended(draining)
        running.cancel()
        await asyncio.wait({running})
    assert seen == list(range(60))


async def test_a_member_that_can_reach_no_other_sync_does_not_hold_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_drain, "MOVE_S", 0.1)
    store = MemoryStore()
    async with a_sync(store) as first, a_sync(store, name="sync-2", network=first.network):
        only = first.service.address
        session = Session(first.carrier(Kind.AGENT, "a1"), only, expect=Kind.SYNC)
        running = asyncio.create_task(session.run())
        await session.live(1.0)
        first.life.drain("a test")
        await ended(first)
        assert [member.name for member in store.leases.members()] == ["sync/sync-2"]
        running.cancel()
        await asyncio.wait({running})


async def test_a_peer_that_never_says_drain_does_not_hold_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_server, "SILENT_S", 0.1)
    monkeypatch.setattr(peer_server, "QUIET_S", 0.05)
    async with a_sync(MemoryStore()) as fleet:
        carrier = fleet.carrier(Kind.COORDINATOR, "c1")
        link = await carrier.dial(fleet.service.address, expect=Kind.SYNC)
        server = fleet.service._server
        await eventually(lambda: server is not None and bool(server.peers))
        fleet.life.drain("a test")
        await ended(fleet)
        await link.close()


async def test_its_lease_says_that_it_drains_before_it_is_given_back() -> None:
    store = Held()
    async with a_sync(store) as fleet:
        peer = await fleet.dial()
        asked = asyncio.ensure_future(peer.ask(a_write(a_column(0, 1))))
        await eventually(lambda: peer.busy)
        assert [member.evidence["stage"] for member in store.leases.members()] == [Stage.SERVING]
        fleet.life.drain("a test")
        await eventually(lambda: _stages(store) == [Stage.DRAINING])
        store.let.set()
        assert isinstance(await asked, frames.Written)
        await ended(fleet)
    assert _stages(store) == []


def _stages(store: MemoryStore) -> list[str]:
    return [member.evidence.get("stage", "") for member in store.leases.members()]


async def test_a_drain_ends_in_time_though_nothing_can_be_committed() -> None:
    store = Held()
    async with a_sync(store, drain_s=0.1) as fleet:
        peer = await fleet.dial()
        asked = asyncio.ensure_future(peer.ask(a_write(a_column(0, 1))))
        await eventually(lambda: peer.busy)
        fleet.life.drain("a test")
        await ended(fleet)
        with pytest.raises(Unavailable):
            await asked
    assert _stages(store) == []  # sync gave its lease back although no transaction was committed


async def test_a_sync_whose_store_never_opened_stops_when_it_is_asked_to() -> None:
    store = MemoryStore()
    store.away = "PostgreSQL: the connection was lost"
    async with a_sync(store, wait=False) as fleet:
        fleet.life.drain("a test")
        await ended(fleet)


# --- from here on, tests in which members are asked to drain --------------------------------------


async def _renewed(peer: Peer) -> bool:
    """Renew the lease of a peer; return whether the answer asks the peer to drain."""
    answer = await peer.ask(frames.Renew(member=Member("", "", "")))
    assert isinstance(answer, frames.Fleet)
    return answer.drain


async def test_a_retired_member_is_told_when_it_renews_and_its_successor_is_not() -> None:
    async with a_sync(MemoryStore()) as fleet:
        operator, agent = await fleet.dial(Kind.OPERATOR, "o1"), await fleet.dial(Kind.AGENT, "a1")
        assert not await _renewed(agent)
        answer = await operator.ask(frames.Retire(name="agent/a1"))
        assert isinstance(answer, frames.Retired)
        assert (answer.name, answer.stage) == ("agent/a1", "")
        assert await _renewed(agent)
        assert await _renewed(agent)
        assert not await _renewed(await fleet.dial(Kind.AGENT, "a1"))


async def test_a_name_without_a_lease_is_refused_with_the_nearest_one() -> None:
    async with a_sync(MemoryStore()) as fleet:
        operator, agent = await fleet.dial(Kind.OPERATOR, "o1"), await fleet.dial(Kind.AGENT, "a1")
        await _renewed(agent)
        with pytest.raises(MidstreamerError, match="'agnt/a1' holds no lease: .* agent/a1"):
            await operator.ask(frames.Retire(name="agnt/a1"))


async def test_a_sync_that_is_asked_to_drain_does_so_by_itself() -> None:
    async with a_sync(MemoryStore()) as fleet:
        operator = await fleet.dial(Kind.OPERATOR, "o1")
        answer = await operator.ask(frames.Retire(name="sync/sync-1"))
        assert isinstance(answer, frames.Retired)
        await ended(fleet)


async def test_another_sync_is_asked_through_the_database() -> None:
    store = MemoryStore()
    async with a_sync(store, lease_s=0.3) as first, a_sync(store, name="sync-2") as other:
        operator = await other.dial(Kind.OPERATOR, "o1")
        await operator.ask(frames.Retire(name="sync/sync-1"))
        await ended(first)
        assert other.life.stage is Stage.SERVING
