"""The memory that a QUIC peer can make a server use is bounded, before and after its handshake."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aioquic import tls
from aioquic.quic.packet import QuicErrorCode, QuicStreamFrame
from structlog.testing import capture_logs

from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.transport import halfopen
from midstreamer.transport.aioquic import mutual_tls
from midstreamer.transport.aioquic import server as server_module
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.aioquic.stream_receiver import CryptoReceiver
from midstreamer.transport.carrier import Limits, Link, Server
from tests.support.hostile import QuicIntruder, a_quic_intruder, displace
from tests.support.identity_builders import Installation, an_authority, credentials, who
from tests.support.link_builders import a_quic_server

pytestmark = pytest.mark.integration

COORDINATOR = who(Kind.COORDINATOR, "c1")
AGENT = who(Kind.AGENT, "a1")


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "certs", Limits(handshake_s=10.0, idle_s=20.0))


@pytest.fixture
async def server(place: Installation) -> AsyncIterator[QuicServer]:
    async with a_quic_server(place.carrier(COORDINATOR)) as serving:
        yield serving


def agent(place: Installation, server: QuicServer) -> QuicIntruder:
    return a_quic_intruder(server.address, credentials(place.authority, AGENT))


def a_long_hello(server: QuicServer, size: int) -> QuicIntruder:
    """Return a client that announces a first message of 16 MB and sends ``size`` bytes of it."""
    client = a_quic_intruder(server.address).begin()
    sender = client.quic._crypto_streams[tls.Epoch.INITIAL].sender
    displace(sender, 0, b"\x01\xff\xff\xff" + bytes(size - 4))
    client.flush()
    return client


async def test_a_far_handshake_byte_is_refused_and_costs_nothing(server: QuicServer) -> None:
    client = a_quic_intruder(server.address).begin()
    displace(client.quic._crypto_streams[tls.Epoch.INITIAL].sender, 500_000)
    tracemalloc.start()
    client.flush()
    end = await client.end()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert end.error == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
    assert most < 400_000  # the peak for both ends of the connection together, in bytes
    client.vanish()


async def test_a_long_handshake_message_is_refused_though_it_comes_in_order(
    server: QuicServer,
) -> None:
    client = a_long_hello(server, 100_000)
    assert (await client.end()).error == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
    client.vanish()


async def test_an_honest_peer_gets_in_while_strangers_fill_all_bytes(
    place: Installation, server: QuicServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halfopen, "BYTES_MAX", 500_000)
    strangers = [a_long_hello(server, 60_000) for _ in range(20)]
    async with asyncio.timeout(2):
        mine = place.carrier(who(Kind.CLIENT, "u1"))
        peer = await peers.dial(mine, server.address, expect=Kind.COORDINATOR)
        assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)
    for _ in range(100):
        assert server._half_open.held_bytes <= 500_000
        await asyncio.sleep(0.005)
    # The server keeps as many half-open connections as fit into the limit of 500,000 bytes.
    assert server._half_open.held_bytes > 400_000
    for stranger in strangers:
        stranger.vanish()
    await peer.close()


async def test_what_a_refused_peer_sends_later_is_dropped(
    place: Installation, server: QuicServer
) -> None:
    client = a_quic_intruder(server.address, credentials(an_authority(), AGENT)).begin()
    sender = client.quic._crypto_streams[tls.Epoch.HANDSHAKE].sender
    original = sender.get_frame

    def all_but_the_end(max_size: int, max_offset: int | None = None) -> QuicStreamFrame | None:
        # Do not send the last bytes of the Finished message yet, so that they arrive after the
        # server has refused the certificate.
        kept_back = 20
        return original(min(max_size, len(sender._buffer) - kept_back - sender.highest_offset))

    sender.get_frame = all_but_the_end  # type: ignore[method-assign]
    flush = client.flush

    def both() -> None:
        flush()
        if sender._buffer:
            sender.get_frame = original  # type: ignore[method-assign]
            # Send the last bytes too, before the server can answer the bytes sent above.
            flush()

    client.flush = both  # type: ignore[method-assign]
    with capture_logs() as logged:
        client.flush()
        end = await client.end()
        await asyncio.sleep(0.05)
    assert end.code == "unknown_authority"
    assert [line["event"] for line in logged if line["log_level"] != "debug"] == ["peer.refused"]
    client.vanish()


async def test_what_is_left_of_refused_peers_is_bounded(
    place: Installation, server: QuicServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LEAVING_MAX", 3)
    for _ in range(8):
        client = a_long_hello(server, 70_000)
        await client.end()
        client.vanish()
    assert len(server._leaving) == len(server._numbers) == 3
    assert all(wire.handshake_bytes <= 65_536 for wire in server._leaving)
    assert all(not hasattr(wire.quic, "tls") for wire in server._leaving)


# --- after the handshake --------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [0, 4, 8, 12])
async def test_a_far_byte_costs_a_byte(
    place: Installation, server: QuicServer, stream: int
) -> None:
    client = await agent(place, server).open(AGENT)
    sender = client.quic._get_or_create_stream_for_send(stream).sender
    displace(sender, mutual_tls.WINDOW_BYTES - 1)
    tracemalloc.start()
    client.flush()
    await asyncio.sleep(0.05)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200_000
    assert server._open_links.links
    client.vanish()


async def test_one_byte_beyond_the_first_window_is_refused(
    place: Installation, server: QuicServer
) -> None:
    client = await agent(place, server).open(AGENT)
    stream = client.quic._get_or_create_stream_for_send(4)
    stream.max_stream_data_remote = 1 << 40
    client.quic._remote_max_data = 1 << 40
    displace(stream.sender, mutual_tls.WINDOW_BYTES)
    client.flush()
    assert (await client.end()).error == QuicErrorCode.FLOW_CONTROL_ERROR
    client.vanish()


async def test_bytes_with_a_gap_after_each_are_not_held_for_ever(
    place: Installation, server: QuicServer
) -> None:
    client = await agent(place, server).open(AGENT)
    sender = client.quic._get_or_create_stream_for_send(4).sender
    for number in range(2000):
        displace(sender, 1000 + 2 * number)
        client.flush()
        if number % 20 == 0:
            await asyncio.sleep(0)
    assert "too many gaps" in (await client.end()).message
    client.vanish()


async def both_ends(place: Installation) -> tuple[Server, Link, Link]:
    """A server, and both ends of a link to it; only the test itself reads from them."""
    met: asyncio.Queue[Link] = asyncio.Queue()

    async def serve(link: Link) -> None:
        met.put_nowait(link)
        await asyncio.Event().wait()

    server = await place.carrier(COORDINATOR).serve("127.0.0.1:0", serve)
    near = await place.carrier(AGENT).dial(server.address, expect=Kind.COORDINATOR)
    return server, near, await met.get()


async def test_the_window_moves_with_what_is_read(place: Installation) -> None:
    server, near, far = await both_ends(place)
    chunk = frames.Changes(changes=(frames.Learned("s", 1, bytes(3_900_000)),))
    for _ in range(5):  # 20 MB in all: more than the window, so the window must move
        near.send(chunk, bulk=True)
        assert await asyncio.wait_for(far.receive(), 10) == chunk
    await near.close()
    await server.close()


async def test_buffers_are_given_back_after_a_large_frame(place: Installation) -> None:
    server, near, far = await both_ends(place)
    chunk = frames.Changes(changes=(frames.Learned("s", 1, bytes(3_900_000)),))
    tracemalloc.start()
    near.send(chunk, bulk=True)
    await asyncio.wait_for(far.receive(), 20)
    await asyncio.sleep(0.2)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 400_000
    await near.close()
    await server.close()


# --- datagrams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1200, 1452, 4000])
async def test_no_datagram_is_larger_than_the_peer_takes(place: Installation, most: int) -> None:
    large = frames.Changes(changes=(frames.Learned("s", 1, bytes(1_000_000)),))

    async def serve(link: Link) -> None:
        link.send(large)
        await link.receive()

    server = await place.carrier(COORDINATOR).serve("127.0.0.1:0", serve)
    holder = credentials(place.authority, AGENT)
    limited = {"max_udp_payload_size": most}
    client = await a_quic_intruder(server.address, holder, parameters=limited).open(AGENT)
    await client.answer()
    assert client.received_bytes > 1_000_000
    assert most - 100 < client.largest_datagram <= most
    client.vanish()
    await server.close()


def handshake_receivers() -> list[CryptoReceiver]:
    """Return all CryptoReceivers of this process."""
    # isinstance would raise for a dead weakref.proxy, which any library may have.
    return [each for each in gc.get_objects() if type(each) is CryptoReceiver]


async def test_a_connection_that_ended_is_freed_without_the_garbage_collector(
    server: QuicServer,
) -> None:
    gc.collect()
    before = handshake_receivers()  # those of other tests in this process, if any still live
    # The connections must be freed without the collector, which pauses the loop up to 280 ms.
    gc.disable()
    try:
        for _ in range(20):
            client = a_quic_intruder(server.address).begin()
            displace(client.quic._crypto_streams[tls.Epoch.INITIAL].sender, 500_000)
            client.flush()
            await client.end()
            client.vanish()
        # QUIC's closing period has not ended, so the server still has all 20 connections. But it
        # has freed their receivers.
        assert len(server._numbers) == 20
        assert [each for each in handshake_receivers() if each not in before] == []
    finally:
        gc.enable()
