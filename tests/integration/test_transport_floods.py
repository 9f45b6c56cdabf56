"""Clients with a certificate can connect while clients without one flood the server's port."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.telemetry import metrics
from midstreamer.transport import halfopen
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.carrier import Limits
from tests.support.identity_builders import Installation, who
from tests.support.link_builders import a_quic_server

pytestmark = pytest.mark.integration

COORDINATOR = who(Kind.COORDINATOR, "c1")
CLIENT = who(Kind.CLIENT, "u1")
FLOOD = 1100
"""Number of connections in a flood: more than a server keeps half-open."""
PAUSE_EACH = 32
"""The flood pauses after so many datagrams, so that the server in the same loop can read."""


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    # The idle time is long, so that no connection is closed for being idle.
    return Installation(tmp_path / "certs", Limits(handshake_s=2.0, idle_s=30.0))


@pytest.fixture
async def server(place: Installation) -> AsyncIterator[QuicServer]:
    async with a_quic_server(place.carrier(COORDINATOR)) as serving:
        yield serving


def a_first_packet() -> bytes:
    """Return a client's first QUIC packet: a valid header, then bytes that cannot be decrypted."""
    header = b"\xc0\x00\x00\x00\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + b"\x00"
    rest = 1200 - len(header) - 2
    return header + (0x4000 | rest).to_bytes(2, "big") + os.urandom(rest)


async def flood(server: QuicServer, count: int) -> int:
    """Send first packets and never answer the server, as if the sender's address were forged.

    Return how many bytes the server sent back.
    """
    host, _, port = server.address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for number in range(count):
            sender.sendto(a_first_packet(), (host, int(port)))
            if number % PAUSE_EACH == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        received_bytes = 0
        while True:
            try:
                received_bytes += len(sender.recv(65_536))
            except BlockingIOError:
                return received_bytes


async def dwell(server: QuicServer, count: int) -> None:
    """Begin connections from a real address, and leave them half-open.

    If the server asks the client to prove its address (by a Retry packet), the client does so.
    """
    host, _, port = server.address.rpartition(":")
    place, loop = (host, int(port)), asyncio.get_running_loop()
    for _ in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            quic = QuicConnection(
                configuration=QuicConfiguration(is_client=True, alpn_protocols=[frames.ALPN])
            )
            quic.connect(place, now=time.monotonic())
            for data, _ in quic.datagrams_to_send(now=time.monotonic()):
                sender.sendto(data, place)
            answer = await asyncio.wait_for(loop.sock_recv(sender, 65_536), 2)
            quic.receive_datagram(answer, place, now=time.monotonic())
            if quic._retry_count:
                for data, _ in quic.datagrams_to_send(now=time.monotonic()):
                    sender.sendto(data, place)
                await asyncio.wait_for(loop.sock_recv(sender, 65_536), 2)


async def get_in(place: Installation, server: QuicServer, *, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        peer = await peers.dial(place.carrier(CLIENT), server.address, expect=Kind.COORDINATOR)
        assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)
        await peer.close()


async def test_a_client_gets_in_while_forged_senders_flood_the_port(
    place: Installation, server: QuicServer
) -> None:
    received_bytes = await flood(server, FLOOD)
    # A server that answers with more bytes than it got would amplify a flood.
    assert received_bytes < FLOOD * 1200
    assert len(server._numbers) <= halfopen.UNPROVEN_MAX
    flooding = asyncio.create_task(flood(server, FLOOD))
    for _ in range(3):
        await get_in(place, server, within_s=2.0)
    await flooding


async def test_a_client_gets_in_past_strangers_who_prove_their_address_and_stay(
    place: Installation, server: QuicServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halfopen, "UNPROVEN_MAX", 4)
    monkeypatch.setattr(halfopen, "SHARE_MAX", 8)
    evicted = metrics.HANDSHAKES.labels("overloaded")._value
    before = evicted.get()
    await dwell(server, 12)
    assert len(server._half_open) == len(server._numbers) == 8
    assert evicted.get() == before + 4
    await get_in(place, server, within_s=2.0)


async def test_half_open_connections_end_with_the_time_for_handshakes(
    place: Installation, server: QuicServer
) -> None:
    ended = metrics.HANDSHAKES.labels("handshake_timeout")._value
    before, began_s = ended.get(), time.monotonic()
    await flood(server, 5)
    await dwell(server, 5)
    async with asyncio.timeout(place.limits.handshake_s + 3):
        while server._numbers:  # noqa: ASYNC110 - a server timer has no event
            await asyncio.sleep(0.01)
    assert time.monotonic() - began_s >= place.limits.handshake_s
    assert [len(server._half_open), len(server._deadlines), len(server._wires)] == [0, 0, 0]
    assert ended.get() == before + 10


async def test_a_token_of_another_address_proves_nothing(
    place: Installation, server: QuicServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halfopen, "UNPROVEN_MAX", 0)
    host, _, port = server.address.rpartition(":")
    address, loop = (host, int(port)), asyncio.get_running_loop()
    quic = QuicConnection(configuration=QuicConfiguration(is_client=True))
    quic.connect(address, now=time.monotonic())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setblocking(False)
        asker.sendto(quic.datagrams_to_send(now=time.monotonic())[0][0], address)
        retry = await asyncio.wait_for(loop.sock_recv(asker, 65_536), 2)
    quic.receive_datagram(retry, address, now=time.monotonic())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(quic.datagrams_to_send(now=time.monotonic())[0][0], address)
    # The server reads packets in order. So once this client is in, the server has read the packet
    # of the socket `other`, too.
    await get_in(place, server, within_s=2.0)
    assert len(server._half_open) == 0
