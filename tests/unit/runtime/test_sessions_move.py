"""A session moves from one link to the next, and no request in progress is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from midstreamer.domain.errors import LinkClosed
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer, Session
from midstreamer.runtime.servers_to_avoid import BURST
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.fleet import eventually
from tests.support.link_builders import CLIENT, COORDINATOR

HERE, THERE = "here:7400", "there:7400"


class _Server:
    """A server that answers surveys while `let` is set, and keeps the list of its peers."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.let = asyncio.Event()
        self.let.set()
        self.answered = 0

    async def handle(self, _peer: Peer, _frame: frames.Frame) -> frames.Answer:
        await self.let.wait()
        self.answered += 1
        return frames.Surveyed()

    async def opened(self, peer: Peer) -> None:
        self.peers.append(peer)


@asynccontextmanager
async def _a_session(
    *places: str, link_age_s: float = 3600.0
) -> AsyncIterator[tuple[Session, list[_Server]]]:
    network, servers, listening = MemoryNetwork(), [], []
    for place in places:
        server = _Server()
        servers.append(server)
        carrier = MemoryCarrier(network, COORDINATOR)
        listening.append(
            await peers.listen(carrier, place, handle=server.handle, opened=server.opened)
        )
    session = Session(
        MemoryCarrier(network, CLIENT), places, expect=Kind.COORDINATOR, link_age_s=link_age_s
    )
    running = asyncio.create_task(session.run())
    try:
        yield session, servers
    finally:
        running.cancel()
        await asyncio.wait({running})
        for each in listening:
            await each.close()


async def _survey(session: Session) -> None:
    assert isinstance(await session.ask(frames.Survey(), budget_s=5), frames.Surveyed)


async def test_an_old_link_is_replaced_and_its_request_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "HANDOVER_S", 0.01)
    async with _a_session(HERE, link_age_s=0.05) as (session, [server]):
        server.let.clear()
        asked = asyncio.create_task(_survey(session))
        await eventually(lambda: len(server.peers) > 1)
        first = server.peers[0]
        await eventually(lambda: first.draining)
        assert not first.closed
        assert not asked.done()
        server.let.set()
        await asked
        await asyncio.wait_for(first.wait_closed(), 5)


async def test_no_request_fails_while_links_are_replaced_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "HANDOVER_S", 0.005)
    async with _a_session(HERE, link_age_s=0.02) as (session, [server]):
        while len(server.peers) < 10:
            await asyncio.gather(*(_survey(session) for _ in range(5)))
            await asyncio.sleep(0.001)
        assert sum(not peer.closed for peer in server.peers) <= 4


async def test_a_server_that_leaves_sends_its_peers_to_the_other() -> None:
    async with _a_session(HERE, THERE) as (session, servers):
        await _survey(session)
        first, other = sorted(servers, key=lambda server: -server.answered)
        first.peers[0].drain(leaving=True)
        await eventually(lambda: first.peers[0].draining)
        await _survey(session)
        await _survey(session)
        assert other.answered == 2
        await asyncio.wait_for(first.peers[0].wait_closed(), 5)


@pytest.mark.parametrize("leaving", [False, True])
async def test_a_server_that_sends_everybody_away_at_once_is_dialled_ever_more_rarely(
    leaving: bool,
) -> None:
    async with _a_session(HERE) as (session, [server]):

        def send_away() -> int:
            for peer in server.peers:
                peer.drain(leaving=leaving)
            return len(server.peers)

        await eventually(lambda: send_away() >= 4 + (BURST if leaving else 0))
        began_s, before = asyncio.get_running_loop().time(), len(server.peers)
        await eventually(lambda: send_away() >= before + 3)
        took_s = asyncio.get_running_loop().time() - began_s
        assert took_s > 0.25, f"three links within {took_s:.2f} s: too short a pause between them"
        assert session._line is not None


async def test_a_peer_that_drains_is_asked_nothing_more() -> None:
    async with _a_session(HERE) as (session, [server]):
        await _survey(session)
        peer = session.peer
        assert peer is not None
        server.peers[0].drain()
        await eventually(lambda: peer.draining)
        with pytest.raises(LinkClosed, match="takes no more requests"):
            await peer.ask(frames.Survey(), budget_s=1)


async def test_what_runs_beside_a_link_ends_before_it_begins_on_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "HANDOVER_S", 0.005)
    running, most, begun = 0, 0, 0

    async def beside(_peer: Peer) -> None:
        nonlocal running, most, begun
        running, begun = running + 1, begun + 1
        most = max(most, running)
        try:
            await asyncio.sleep(3600)
        finally:
            running -= 1

    network, server = MemoryNetwork(), _Server()
    listening = await peers.listen(
        MemoryCarrier(network, COORDINATOR), HERE, handle=server.handle, opened=server.opened
    )
    session = Session(
        MemoryCarrier(network, CLIENT),
        HERE,
        expect=Kind.COORDINATOR,
        opened=beside,
        link_age_s=0.02,
    )
    task = asyncio.create_task(session.run())
    await eventually(lambda: begun >= 5)
    task.cancel()
    await asyncio.wait({task})
    await listening.close()
    assert (most, running) == (1, 0)


async def test_a_session_that_leaves_dials_no_other_link() -> None:
    async with _a_session(HERE, THERE) as (session, servers):
        await _survey(session)
        await session.leave(5)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert sum(len(server.peers) for server in servers) == 1
        assert any(peer.leaving for server in servers for peer in server.peers)
