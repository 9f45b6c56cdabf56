"""When a callback of a link raises an error, the server closes and forgets the connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec, frames
from midstreamer.protocol.connection import Code
from midstreamer.security import allowlist
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.aioquic.wire import QuicWire
from midstreamer.transport.carrier import Limits, Link
from midstreamer.transport.framed_link import FramedLink
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork, MemoryServer
from tests.support.hostile import QuicIntruder, a_quic_intruder, hello, nested
from tests.support.identity_builders import Installation, credentials, who

pytestmark = pytest.mark.integration

COORDINATOR = who(Kind.COORDINATOR, "c1")
AGENT = who(Kind.AGENT, "a1")
NESTED = nested(100_000)
LIMITS = Limits(handshake_s=1.0, idle_s=2.0, frame_s=0.2)


class Broken(Exception):
    """The error that the callbacks of these tests raise."""


def breaking(holder: Any, name: str, *, once: bool) -> None:
    """Make a method raise `Broken`: with ``once`` at its next call only, else at every call."""
    original = getattr(holder, name)

    def broken(*arguments: Any, **named: Any) -> Any:
        if once:
            setattr(holder, name, original)
        raise Broken(name)

    setattr(holder, name, broken)


@dataclass
class Application:
    """The application behind a server: it takes every Survey, but does not answer it."""

    links: list[Link] = field(default_factory=list)
    fails: bool = False

    async def serve(self, link: Link) -> None:
        if self.fails:
            raise Broken("on_link")
        self.links.append(link)
        link.deliver_to(self.take)
        await link.receive()

    def take(self, frame: frames.Frame) -> bool:
        return isinstance(frame, frames.Survey)


@dataclass
class Quic:
    """A coordinator on QUIC."""

    place: Installation
    server: QuicServer
    application: Application

    def client(self) -> QuicIntruder:
        holder = credentials(self.place.authority, AGENT)
        return a_quic_intruder(self.server.address, holder)

    def wire(self) -> QuicWire:
        (wire,) = self.server._numbers
        return wire

    def link(self) -> FramedLink:
        link = self.wire().link
        assert link is not None
        return link

    async def all_given_back(self) -> None:
        kept = self.server
        parts: list[Sized] = [kept._open_links.links, kept._numbers, kept._wires, kept._judged]
        parts += [kept._wire_of, kept._half_open, kept._deadlines, kept._turned_away, kept._leaving]
        async with asyncio.timeout(5):
            while any(map(len, parts)):  # noqa: ASYNC110 - timers, which have no event
                await asyncio.sleep(0.01)


@pytest.fixture
async def quic(tmp_path: Path) -> AsyncIterator[Quic]:
    place, application = Installation(tmp_path / "certs", LIMITS), Application()
    server = await place.carrier(COORDINATOR).serve("127.0.0.1:0", application.serve)
    assert isinstance(server, QuicServer)
    yield Quic(place, server, application)
    await server.close()


# These tests send a frame with too many nested values.


async def test_a_nested_value_ends_its_connection_and_says_why(quic: Quic) -> None:
    client = await quic.client().open(AGENT)
    client.write(NESTED)
    end = await client.end()
    assert end.code == Code.MALFORMED
    await quic.all_given_back()
    client.vanish()


async def test_connections_that_each_send_a_nested_value_never_add_up(quic: Quic) -> None:
    clients = [quic.client() for _ in range(60)]
    for client in clients:
        # An identity may have at most 16 links. So this link opens only if the server has freed
        # the links of earlier clients.
        await client.open(AGENT)
        client.write(NESTED)
        live = sum(not wire.over for wire in quic.server._numbers)
        assert live <= LIMITS.links_per_identity_max
    for client in clients:
        await client.end()
        client.vanish()
    await quic.all_given_back()


# The callbacks of an open connection: for each the object and the name of its method. A test makes
# the method raise an error.

OPEN: dict[str, tuple[Callable[[Quic], Any], str]] = {
    "quic.receive_datagram": (lambda quic: quic.wire().quic, "receive_datagram"),
    "quic.next_event": (lambda quic: quic.wire().quic, "next_event"),
    "quic.datagrams_to_send": (lambda quic: quic.wire().quic, "datagrams_to_send"),
    "quic.get_timer": (lambda quic: quic.wire().quic, "get_timer"),
    "quic.handle_timer": (lambda quic: quic.wire().quic, "handle_timer"),
    "quic.send_ping": (lambda quic: quic.wire().quic, "send_ping"),
    "quic.send_stream_data": (lambda quic: quic.wire().quic, "send_stream_data"),
    "server.send": (lambda quic: quic.server, "send"),
    "wire.write": (lambda quic: quic.wire(), "write"),
    "wire.consumed": (lambda quic: quic.wire(), "consumed"),
    "link.data": (lambda quic: quic.link(), "data"),
    "link.written": (lambda quic: quic.link(), "written"),
    "connection.receive": (lambda quic: quic.link()._connection, "receive"),
    "connection.tick": (lambda quic: quic.link()._connection, "tick"),
    "take": (lambda quic: quic.link(), "_take"),
    "judge": (lambda quic: quic.server._trust, "judge"),
}


async def touch_everything(quic: Quic, client: QuicIntruder) -> None:
    """Trigger each callback of `OPEN`.

    The client sends a frame. The server's side sends a ping and an answer, lets a timer fire, and
    checks all peers again.
    """
    link, wire = quic.link(), quic.wire()
    if link._timer is None:
        link._timer = asyncio.get_running_loop().call_later(0.01, link._tick)
    client.write(codec.encode(frames.Survey(request=1)))
    await asyncio.sleep(0.05)
    if not wire.over:
        wire.keep_alive()
        internal = wire.quic._close_at
        assert internal is not None
        # Pretend that nothing was received for the whole idle period, so that a ping is due.
        wire.quic._close_at = internal - LIMITS.idle_s
        wire.keep_alive()
        wire.quic._close_at = internal
    with contextlib.suppress(MidstreamerError):  # sending on a closed link raises an error
        link.send(frames.Surveyed(request=1))
    quic.server.reconsider()


@pytest.mark.parametrize("once", [True, False], ids=["once", "always"])
@pytest.mark.parametrize("name", OPEN)
async def test_a_callback_that_raises_ends_its_connection(
    quic: Quic, name: str, once: bool
) -> None:
    client = await quic.client().open(AGENT)
    holder, method = OPEN[name][0](quic), OPEN[name][1]
    breaking(holder, method, once=once)
    await touch_everything(quic, client)
    if once:
        await client.end()
    await quic.all_given_back()
    client.vanish()


OPENING: dict[str, Callable[[Quic, pytest.MonkeyPatch], None]] = {
    "begin": lambda quic, _: breaking(quic.server, "_begin", once=True),
    "numbered": lambda quic, _: breaking(quic.server, "numbered", once=True),
    "judge": lambda quic, _: breaking(quic.server._trust, "judge", once=False),
    "require_room": lambda quic, _: breaking(quic.server._open_links, "require_room", once=False),
    "established": lambda quic, _: breaking(quic.server, "established", once=False),
    "connection": lambda quic, _: breaking(quic.server._trust, "connection", once=False),
    "welcome": lambda quic, _: breaking(quic.server._open_links, "welcome", once=False),
    "on_link": lambda quic, _: setattr(quic.application, "fails", True),
    "start": lambda _, patch: patch.setattr(FramedLink, "start", _raise),
}


def _raise(*_: Any) -> None:
    raise Broken("start")


@pytest.mark.parametrize("name", OPENING)
async def test_a_callback_that_raises_while_opening_ends_its_connection(
    quic: Quic, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    OPENING[name](quic, monkeypatch)
    client = quic.client().begin()
    client.flush()
    client.write(hello(AGENT))
    # An error in `_begin` or `numbered` only drops the client's first packet. The client sends the
    # packet again, and now the server accepts it. So no connection ends.
    if name not in {"begin", "numbered"}:
        await client.end()
    client.vanish()
    await quic.all_given_back()


async def test_an_end_that_fails_half_way_gives_the_place_back(quic: Quic) -> None:
    client = await quic.client().open(AGENT)
    breaking(quic.server, "ended", once=True)
    client.write(NESTED)
    await client.end()
    await quic.all_given_back()
    client.vanish()


async def test_one_link_that_cannot_be_judged_again_does_not_save_the_others(quic: Quic) -> None:
    first, second = [await quic.client().open(AGENT) for _ in range(2)]
    breaking(quic.server._trust, "judge", once=True)
    quic.place.allow("coordinator/*")
    assert quic.server._trust.refresh()
    quic.server.reconsider()
    for client in (first, second):
        await client.end()
        client.vanish()
    await quic.all_given_back()


# --- in memory ------------------------------------------------------------------------------------

IN_MEMORY: dict[str, tuple[Callable[[FramedLink], Any], str]] = {
    "connection.receive": (lambda link: link._connection, "receive"),
    "connection.tick": (lambda link: link._connection, "tick"),
    "wire.consumed": (lambda link: link._wire, "consumed"),
    "take": (lambda link: link, "_take"),
}


async def in_memory() -> tuple[MemoryServer, FramedLink, FramedLink]:
    """A coordinator on the memory carrier, and both ends of a link to it."""
    network, application = MemoryNetwork(), Application()
    everybody = allowlist.parse("agent/*\ncoordinator/*")
    near, far = (
        MemoryCarrier(network, me, allowlist=lambda: everybody, limits=LIMITS)
        for me in (AGENT, COORDINATOR)
    )
    server = await far.serve("local:0", application.serve)
    dialled = await near.dial(server.address, expect=Kind.COORDINATOR)
    await asyncio.sleep(0.01)
    assert isinstance(server, MemoryServer)
    assert isinstance(dialled, FramedLink)
    (accepted,) = server.open_links.links
    return server, dialled, accepted


@pytest.mark.parametrize("name", IN_MEMORY)
async def test_a_callback_that_raises_ends_a_link_in_memory_too(name: str) -> None:
    server, dialled, accepted = await in_memory()
    holder, method = IN_MEMORY[name][0](accepted), IN_MEMORY[name][1]
    breaking(holder, method, once=False)
    dialled.send(frames.Survey(request=1))
    dialled._wire.write(0, b"\x00\x00\x01\x00half")
    await asyncio.wait_for(dialled.closed.wait(), 2)
    await asyncio.sleep(0.01)
    assert not server.open_links.links


async def test_a_nested_value_ends_a_link_in_memory_too() -> None:
    server, dialled, _ = await in_memory()
    dialled._wire.write(0, NESTED)
    await asyncio.wait_for(dialled.closed.wait(), 2)
    await asyncio.sleep(0.01)
    assert not server.open_links.links


# These tests send only a part of a frame.


async def test_half_a_frame_ends_its_connection_in_time(quic: Quic) -> None:
    client = await quic.client().open(AGENT)
    client.write(b"\x00\x00\x01\x00half")
    assert (await client.end()).code == Code.FRAME_TIMEOUT
    await quic.all_given_back()
    client.vanish()


async def test_half_a_frame_ends_a_link_in_memory_too() -> None:
    _, dialled, _ = await in_memory()
    dialled._wire.write(0, b"\x00\x00\x01\x00half")
    await asyncio.wait_for(dialled.closed.wait(), 2)
    assert "frame_timeout" in str(dialled._closed_error())
