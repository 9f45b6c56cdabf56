"""What hostile clients, with or without a certificate, can do over WebSocket."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from midstreamer.domain.errors import LinkClosed
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Listener, Peer
from midstreamer.security.credentials import Credentials
from midstreamer.telemetry import metrics
from midstreamer.transport.address import parse
from midstreamer.transport.carrier import Limits
from midstreamer.transport.refusal_self_test import SelfTestFailed
from midstreamer.transport.websocket import selftest, tls
from midstreamer.transport.websocket import wire as wires
from midstreamer.transport.websocket.server import HALF_OPEN_MAX, WssServer
from midstreamer.transport.websocket.wire import WssWire
from tests.support.fleet import eventually
from tests.support.hostile_websocket import (
    BINARY,
    PING,
    TEXT,
    a_context,
    message,
    tls_to,
    upgrade,
    wss_intruder,
)
from tests.support.identity_builders import Installation, credentials, who
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

COORDINATOR = who(Kind.COORDINATOR, "c1")
CLIENT = who(Kind.CLIENT, "u1")
HANDSHAKE_S = 1.0


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    limits = Limits(handshake_s=HANDSHAKE_S, idle_s=2.0)
    return Installation(tmp_path / "certs", limits, scheme="wss")


@pytest.fixture
async def listening(place: Installation) -> AsyncIterator[Listener]:
    listener = await peers.listen(place.carrier(COORDINATOR), "127.0.0.1:0", handle=answer_surveys)
    yield listener
    await listener.close()


def server_of(listening: Listener) -> WssServer:
    (server,) = listening.server.servers  # type: ignore[attr-defined]
    assert isinstance(server, WssServer)
    return server


def left_in(server: WssServer) -> list[int]:
    """Return the sizes of the server's collections. After the last connection ended, all are 0."""
    kept = (server._wires, server._judged, server._wire_of, server._turned_away, server._deadlines)
    return [*map(len, kept), len(server._half_open), len(server._open_links.arriving)]


def counted(reason: str) -> float:
    return float(metrics.HANDSHAKES.labels(reason)._value.get())


async def an_honest_survey(place: Installation, listening: Listener) -> float:
    """Dial and send a Survey; return the seconds until its answer."""
    began_s = time.monotonic()
    carrier = place.carrier(CLIENT)
    peer = await peers.dial(carrier, listening.address, expect=Kind.COORDINATOR)
    assert isinstance(await peer.ask(frames.Survey(), budget_s=5), frames.Surveyed)
    await peer.close()
    return time.monotonic() - began_s


async def plain(listening: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = parse(listening.address).place.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def closed(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection; return all bytes that were read."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


STRANGERS = {
    "no TLS": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "random bytes": os.urandom(4000),
    "nothing": b"",
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a hello of 64 kB and more": (b"\x16\x03\x01\x40\x00\x01\x01\x00\x00" + bytes(0x4000 - 4)) * 5,
}


@pytest.mark.parametrize("data", STRANGERS.values(), ids=list(STRANGERS))
async def test_who_speaks_no_tls_is_closed_in_time_and_nothing_is_kept(
    listening: Listener, data: bytes
) -> None:
    reader, writer = await plain(listening)
    began_s = time.monotonic()
    writer.write(data)
    answer = await closed(reader)
    writer.transport.abort()
    assert time.monotonic() - began_s < HANDSHAKE_S + 2.0
    assert len(answer) < 100  # the server sent at most a TLS alert
    await eventually(lambda: not any(left_in(server_of(listening))))


async def test_without_a_certificate_nobody_gets_further_than_tls(listening: Listener) -> None:
    before = counted("no_certificate")
    async with wss_intruder(listening.address, None) as stranger:
        end = await stranger.end()
    assert "CERTIFICATE_REQUIRED" in end.message
    assert counted("no_certificate") == before + 1
    assert stranger.status == 0
    assert listening.peers == ()


async def test_a_refusal_names_its_reason_and_nothing_else_is_said(place: Installation) -> None:
    place.allow("coordinator/*")
    listener = await peers.listen(place.carrier(COORDINATOR), "127.0.0.1:0", handle=answer_surveys)
    async with wss_intruder(listener.address, credentials(place.authority, CLIENT)) as stranger:
        end = await stranger.end()
    await listener.close()
    assert (stranger.status, end.code, stranger.received_bytes) == (403, "not_allowed", 0)


async def test_silent_sockets_beyond_the_bound_make_room_and_an_honest_peer_gets_in(
    place: Installation, listening: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 40
    server = server_of(listening)
    monkeypatch.setattr(server._half_open, "_most", most)
    held = await asyncio.gather(*(plain(listening) for _ in range(3 * most)))
    took_s = await an_honest_survey(place, listening)
    # All these sockets come from one address, which may hold at most half of the places.
    assert len(server._half_open) <= most // 2 + 1
    assert took_s < 1.0
    for _, writer in held:
        writer.transport.abort()
    await eventually(lambda: not any(left_in(server)))
    assert most < HALF_OPEN_MAX


def wants(data: bytes) -> bytes:
    return upgrade("h") + data


RULE_BREAKERS = {
    "text": wants(message(TEXT, b"\x00hello")),
    "a message in parts": wants(message(BINARY, b"\x00x", fin=False)),
    "a message without a mask": wants(message(BINARY, b"\x00x", masked=False)),
    "an empty message": wants(message(BINARY, b"")),
    "a message too long": wants(message(BINARY, bytes(100_000))),
    "a reserved bit": wants(b"\xc2" + message(BINARY, b"\x00x")[1:]),
    "pings without end": wants(message(PING, b"x" * 100) * 500),
    "a broken message before the answer": upgrade("h").replace(b"\r\n\r\n", b"\r\n\r\n\xf2\x80"),
    "no upgrade": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "another subprotocol": upgrade("h", subprotocol="chat"),
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
    "headers without end": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000,
    "a line without end": b"GET /" + b"a" * 50_000,
    "nothing after TLS": b"",
}


@pytest.mark.parametrize("data", RULE_BREAKERS.values(), ids=list(RULE_BREAKERS))
async def test_a_listed_peer_that_breaks_the_rules_is_closed_and_harms_nobody(
    place: Installation, listening: Listener, data: bytes
) -> None:
    holding = credentials(place.authority, CLIENT)
    async with wss_intruder(listening.address, holding, first=data) as intruder:
        await intruder.end()
        assert intruder.pongs <= wires.PINGS_MAX
        await an_honest_survey(place, listening)
    await eventually(lambda: not any(left_in(server_of(listening))))


async def test_nothing_is_compressed_though_it_is_offered(
    place: Installation, listening: Listener
) -> None:
    offer = upgrade("h").replace(
        b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
    reader, writer = await tls_to(listening.address, credentials(place.authority, CLIENT))
    writer.write(offer)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    assert b" 101 " in head
    assert b"extensions" not in head.lower()


async def test_no_session_can_be_taken_up_again(place: Installation, listening: Listener) -> None:
    context = a_context(credentials(place.authority, CLIENT))
    host, _, port = parse(listening.address).place.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(upgrade("h"))
    await reader.readuntil(b"\r\n\r\n")
    inside = writer.get_extra_info("ssl_object")
    assert isinstance(inside, ssl.SSLObject)
    assert inside.version() == "TLSv1.3"
    assert inside.session is None or not inside.session.has_ticket
    writer.transport.abort()


async def test_a_peer_that_never_reads_holds_no_more_than_the_bound(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.limits = Limits(handshake_s=2.0, idle_s=30.0, send_high_bytes=200_000)
    listener = await peers.listen(place.carrier(COORDINATOR), "127.0.0.1:0", handle=answer_surveys)
    holding = credentials(place.authority, CLIENT)
    async with wss_intruder(listener.address, holding) as greedy:
        await greedy.greet(CLIENT)
        greedy.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (peer,) = listener.peers
        page = frames.Changes(changes=(frames.Learned("s", 1, bytes(50_000)),))
        sent = 0
        while peer._link._wire.unsent_bytes <= 200_000 and sent < 1000:  # type: ignore[attr-defined]
            peer._link.send(page, bulk=True)
            sent += 1
            await asyncio.sleep(0)
        assert sent < 1000
        assert peer._link._wire.unsent_bytes < 400_000  # type: ignore[attr-defined]
    await listener.close()


FAILING = {
    "reading TLS": ("tls", "receive"),
    "decrypting": ("tls", "read"),
    "reading messages": ("_web", "receive_data"),
    "sealing": ("tls", "take"),
    "writing": ("_waiting", "turn"),
    "attending": ("link", "data"),
    "keeping alive": ("_web", "send_ping"),
}


@pytest.mark.parametrize(("part", "name"), FAILING.values(), ids=list(FAILING))
async def test_a_callback_that_raises_ends_its_connection_and_gives_its_place_back(
    place: Installation, listening: Listener, part: str, name: str
) -> None:
    peer = await peers.dial(place.carrier(CLIENT), listening.address, expect=Kind.COORDINATOR)
    server = server_of(listening)
    (wire,) = server._wires
    broken = getattr(wire, part)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    setattr(broken, name, fail)
    with pytest.raises(LinkClosed):
        await _asked_on(peer, wire)
    await eventually(lambda: not any(left_in(server)))
    await an_honest_survey(place, listening)
    await peer.close()


async def _asked_on(peer: Peer, wire: WssWire) -> None:
    """Send Surveys and pings until a Survey fails because of the method that the test broke.

    The test has replaced one method of a part of ``wire`` by a function that raises an error.
    """
    for _ in range(50):
        await peer.ask(frames.Survey(), budget_s=2)
        # Pretend that nothing was received for half the idle period, so that a ping is due.
        wire._heard_s -= wire._idle_s / 2
        wire.keep_alive()


def test_a_process_that_would_let_strangers_in_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict = tls.context

    def lax(holding: Credentials | None, *, server_side: bool) -> ssl.SSLContext:
        context = strict(holding, server_side=server_side)
        context.verify_mode = ssl.CERT_NONE
        return context

    monkeypatch.setattr(selftest, "_done", [])
    selftest.self_test()
    monkeypatch.setattr(selftest, "_done", [])
    monkeypatch.setattr(tls, "context", lax)
    with pytest.raises(SelfTestFailed):
        selftest.self_test()
