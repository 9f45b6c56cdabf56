"""A drain ends although a client never answers Drain; a link that opens late gets Drain at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec, frames
from midstreamer.protocol.capabilities import OURS
from midstreamer.runtime import peer as peers
from midstreamer.runtime import peer_server as listeners
from midstreamer.runtime.peer import Listener, Peer
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.fleet import eventually
from tests.support.hostile import MemoryIntruder, memory_intruder
from tests.support.link_builders import CLIENT, COORDINATOR

HERE = "here:7400"
HELLO = codec.encode(
    frames.AgentHandshake(CLIENT.id, CLIENT.kind, frames.VERSION, "i", capabilities=OURS)
)
NETWORK = MemoryNetwork()


@pytest.fixture
async def listening() -> AsyncIterator[Listener]:
    async def handle(_peer: Peer, _frame: frames.Frame) -> frames.Answer:
        return frames.Surveyed()

    listener = await peers.listen(MemoryCarrier(NETWORK, COORDINATOR), HERE, handle=handle)
    yield listener
    await listener.close()


def an_intruder() -> MemoryIntruder:
    return memory_intruder(NETWORK, HERE, CLIENT)


async def test_a_client_that_never_says_drain_does_not_hold_a_drain_up(
    listening: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "SILENT_S", 0.05, raising=False)
    monkeypatch.setattr(listeners, "QUIET_S", 0.02)
    intruder = an_intruder()
    intruder.write(HELLO)
    await eventually(lambda: bool(listening.peers))
    await asyncio.wait_for(listening.sent_away([Kind.CLIENT]), 2)


async def test_a_link_that_opens_during_a_drain_is_told_at_once(listening: Listener) -> None:
    intruder = an_intruder()
    listening.refuse_new()
    await listening.sent_away([Kind.CLIENT])
    intruder.write(HELLO)
    received = [(await intruder.answer())["frame"] for _ in range(2)]
    assert received == ["CoordinatorAck", "Drain"]
