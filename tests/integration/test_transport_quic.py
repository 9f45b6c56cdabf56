"""Tests that run with QUIC only, over real sockets."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder

from midstreamer.domain.errors import ConfigError, LinkClosed, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Listener, Session
from midstreamer.transport import refusal_self_test
from midstreamer.transport.aioquic import aioquic_internals, selftest, wire
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.carrier import Limits, Link
from tests.support.identity_builders import Installation, who
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

ANY_PORT = "127.0.0.1:0"
COORDINATOR = who(Kind.COORDINATOR, "c1")
CLIENT = who(Kind.CLIENT, "u1")


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "certs")


@pytest.fixture
async def server(place: Installation) -> AsyncIterator[Listener]:
    serving = await peers.listen(place.carrier(COORDINATOR), ANY_PORT, handle=answer_surveys)
    yield serving
    await serving.close()


def die(server: Listener) -> None:
    """End like a killed process: close the port without closing connections."""
    quic = server.server
    assert isinstance(quic, QuicServer)
    for known in list(quic._numbers):
        known.stop()
    quic._socket.close()
    quic._released(quic)


async def test_a_session_goes_on_with_a_server_that_was_restarted(
    place: Installation, server: Listener
) -> None:
    session = Session(place.carrier(CLIENT), server.address, expect=Kind.COORDINATOR)
    running = asyncio.create_task(session.run())
    await session.ask(frames.Survey(), budget_s=5)
    die(server)
    again = await peers.listen(place.carrier(COORDINATOR), server.address, handle=answer_surveys)
    with pytest.raises(LinkClosed):
        await session.ask(frames.Survey(), budget_s=5)
    assert isinstance(await session.ask(frames.Survey(), budget_s=5), frames.Surveyed)
    running.cancel()
    await asyncio.wait({running})
    await again.close()


async def test_a_quiet_connection_is_kept_alive(place: Installation) -> None:
    place.limits = Limits(idle_s=1.5)
    server = await peers.listen(place.carrier(COORDINATOR), ANY_PORT, handle=answer_surveys)
    peer = await peers.dial(place.carrier(CLIENT), server.address, expect=Kind.COORDINATOR)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(peer.wait_closed(), 2.5)
    assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)
    await peer.close()
    await server.close()


async def test_sending_leaves_nothing_to_the_garbage_collector(
    place: Installation, server: Listener
) -> None:
    peer = await peers.dial(place.carrier(CLIENT), server.address, expect=Kind.COORDINATOR)
    await peer.ask(frames.Survey())
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await peer.ask(frames.Survey())
        left = [each for each in gc.get_objects() if type(each) is QuicPacketBuilder]
    finally:
        gc.enable()
    assert left == []
    await peer.close()


async def test_a_reader_that_never_reads_loses_its_link_not_the_memory(
    place: Installation,
) -> None:
    place.limits = Limits(inbox_bytes_max=1_000_000, send_low_bytes=50_000)
    met: asyncio.Queue[Link] = asyncio.Queue()

    async def serve(link: Link) -> None:
        met.put_nowait(link)
        await asyncio.Event().wait()

    server = await place.carrier(COORDINATOR).serve(ANY_PORT, serve)
    near = await place.carrier(CLIENT).dial(server.address, expect=Kind.COORDINATOR)
    chunk = frames.Changes(changes=(frames.Learned("s", 1, bytes(100_000)),))
    with pytest.raises(LinkClosed, match="inbox_full"):  # noqa: PT012 - one of the sends raises
        for _ in range(50):
            near.send(chunk, bulk=True)
            await asyncio.wait_for(near.drained(), 5)
    await (await met.get()).close()
    await server.close()


async def test_keys_are_replaced_under_way(
    place: Installation, server: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "KEY_UPDATE_PACKETS", 40)
    updates, update = list[QuicConnection](), QuicConnection.request_key_update

    def counting(quic: QuicConnection) -> None:
        updates.append(quic)
        update(quic)

    monkeypatch.setattr(QuicConnection, "request_key_update", counting)
    peer = await peers.dial(place.carrier(CLIENT), server.address, expect=Kind.COORDINATOR)
    for _ in range(100):
        assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)
    assert len(updates) >= 4
    await peer.close()


async def test_a_port_in_use_is_named(place: Installation, server: Listener) -> None:
    with pytest.raises(ConfigError, match=rf"cannot listen on {server.address}: Address already"):
        await peers.listen(place.carrier(COORDINATOR), server.address, handle=answer_surveys)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:", "127.0.0.1:99999", ""])
async def test_an_address_that_is_none_is_named(place: Installation, address: str) -> None:
    with pytest.raises(ConfigError, match="is not <host>:<port>"):
        await peers.dial(place.carrier(CLIENT), address, expect=Kind.COORDINATOR)


async def test_a_silent_port_is_given_up_in_time(place: Installation) -> None:
    place.limits = Limits(handshake_s=0.2)
    loop = asyncio.get_running_loop()
    silent, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    port = silent.get_extra_info("sockname")[1]
    with pytest.raises(Unavailable, match="does not answer"):
        await peers.dial(place.carrier(CLIENT), f"127.0.0.1:{port}", expect=Kind.COORDINATOR)
    silent.close()


async def test_what_is_closed_leaves_nothing_behind(place: Installation, server: Listener) -> None:
    quic = server.server
    assert isinstance(quic, QuicServer)
    for number in range(5):
        client = place.carrier(who(Kind.CLIENT, f"u{number}"))
        peer = await peers.dial(client, server.address, expect=Kind.COORDINATOR)
        await peer.ask(frames.Survey())
        await peer.close()
    async with asyncio.timeout(5):
        while quic._numbers:  # noqa: ASYNC110 - aioquic forgets after three probe timeouts
            await asyncio.sleep(0.01)
    left = (quic._wires, quic._judged, quic._wire_of, quic._open_links.links)
    assert [len(kept) for kept in left] == [0, 0, 0, 0]
    assert [len(quic._half_open), len(quic._deadlines)] == [0, 0]


def test_the_self_test_passes_and_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    selftest._done.clear()
    selftest.self_test()
    monkeypatch.delattr(selftest, "_meet")
    selftest.self_test()


@pytest.mark.parametrize("hook", ["require_client_certificate", "judge_server_certificate"])
def test_the_self_test_fails_when_a_hook_does_nothing(
    monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    monkeypatch.setattr(selftest, "_done", [])
    monkeypatch.setattr(aioquic_internals, hook, lambda context, judge: None)
    with pytest.raises(refusal_self_test.SelfTestFailed):
        selftest.self_test()


def test_another_version_of_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "_done", [])
    monkeypatch.setattr("aioquic.__version__", "1.7.3")
    with pytest.raises(ConfigError, match=r"exactly 1\.7\.2 is needed"):
        selftest.self_test()
