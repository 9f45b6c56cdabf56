"""A peer that cancels its request sends a `Cancel` frame, and the other peer stops its work.

The tests use links of the memory carrier.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from midstreamer.domain.errors import DeadlineExceeded
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.fleet import eventually
from tests.support.link_builders import AGENT, CLIENT, COORDINATOR, SYNC

AT = "local:7400"


class _Server:
    """A server that holds each request until `let` is set, and counts how the requests ended."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.begun = self.cancelled = self.done = 0

    async def handle(self, peer: Peer, frame: frames.Frame) -> frames.Answer:
        self.begun += 1
        if isinstance(frame, frames.Tail):
            peer.tell(frames.Changes(request=frame.request, position=1, changes=()))
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.done += 1
        return frames.Surveyed()


@asynccontextmanager
async def _a_pair(
    who: Identity = CLIENT, server: Identity = COORDINATOR
) -> AsyncIterator[tuple[Peer, _Server]]:
    network, serving = MemoryNetwork(), _Server()
    listening = await peers.listen(
        MemoryCarrier(network, server), AT, handle=serving.handle, in_flight_max=4
    )
    peer = await peers.dial(MemoryCarrier(network, who), AT, expect=server.kind)
    try:
        yield peer, serving
    finally:
        await peer.close()
        await listening.close()


async def test_work_ends_at_once_when_its_asker_leaves() -> None:
    async with _a_pair() as (peer, server):
        asked = asyncio.create_task(peer.ask(frames.Survey(), budget_s=60))
        await eventually(lambda: server.begun == 1)
        asked.cancel()
        await eventually(lambda: server.cancelled == 1)
        assert not peer.busy


async def test_requests_that_were_left_take_no_places() -> None:
    async with _a_pair() as (peer, server):
        for place in range(20):
            asked = asyncio.create_task(peer.ask(frames.Survey(), budget_s=60))
            await eventually(lambda place=place: server.begun == place + 1)  # type: ignore[misc]
            asked.cancel()
        await eventually(lambda: server.cancelled == 20)


async def test_a_request_that_was_left_before_work_began_takes_no_place() -> None:
    async with _a_pair() as (peer, server):
        link = peer._link
        for number in range(100, 120):
            # The request and its Cancel arrive in the same turn of the event loop.
            link.send(frames.Survey(request=number))
            link.send(frames.Cancel(number))
            for _ in range(5):
                await asyncio.sleep(0)
        assert server.begun == 0
        server.let.set()
        assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)


async def test_what_changes_the_store_goes_on_when_its_asker_leaves() -> None:
    async with _a_pair() as (peer, server):
        asked = asyncio.create_task(peer.ask(frames.Append(columns=()), budget_s=60))
        await eventually(lambda: server.begun == 1)
        asked.cancel()
        await asyncio.wait({asked})
        server.let.set()
        await eventually(lambda: server.done == 1)
        assert server.cancelled == 0


async def test_a_budget_that_is_over_ends_the_work_on_the_other_side() -> None:
    async with _a_pair() as (peer, server):
        with pytest.raises(DeadlineExceeded):
            await peer.ask(frames.Survey(), budget_s=0.01)
        await eventually(lambda: server.cancelled == 1)


async def test_a_follower_that_stops_gets_no_more_changes() -> None:
    async with _a_pair(AGENT, SYNC) as (peer, server):
        following = peer.follow(frames.Tail(after=0))
        await anext(following)
        await following.aclose()  # type: ignore[attr-defined]
        await eventually(lambda: server.cancelled == 1)


async def test_the_link_outlives_any_number_of_cancels() -> None:
    async with _a_pair() as (peer, server):
        server.let.set()
        for number in range(1000):
            peer.tell(frames.Cancel(number))
        assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)


@pytest.mark.parametrize("kind", [Kind.CLIENT, Kind.AGENT])
async def test_both_sides_of_a_link_settle_after_what_is_under_way(kind: Kind) -> None:
    who, server_id = (CLIENT, COORDINATOR) if kind is Kind.CLIENT else (AGENT, SYNC)
    async with _a_pair(who, server_id) as (peer, server):
        asked = asyncio.create_task(peer.ask(frames.Survey(), budget_s=60))
        await eventually(lambda: server.begun == 1)
        peer.drain(leaving=True)
        await eventually(lambda: peer.draining)
        assert peer.busy
        server.let.set()
        await asked
        await asyncio.wait_for(peer.settled(), 1)
        assert (peer.busy, peer.leaving) == (False, False)
