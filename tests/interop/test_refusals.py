"""A client that must not connect is refused with a reason, also if it uses another QUIC library.

The application sees no byte of such a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec, frames
from midstreamer.protocol.connection import BULK_STREAM
from midstreamer.protocol.frames import Frame
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer
from midstreamer.security.credentials import Credentials
from midstreamer.transport.carrier import Limits, Server
from tests.support import link_builders
from tests.support.hostile import framed, hello
from tests.support.identity_builders import (
    DAY_S,
    Installation,
    an_authority,
    credentials,
    mislabelled,
    who,
)
from tests.support.interop import ANY_PORT, ForeignClient, Ports, Reply

pytestmark = pytest.mark.integration

COORDINATOR = who(Kind.COORDINATOR, "c1")
CLIENT = who(Kind.CLIENT, "u1")


@dataclass
class Serving:
    """A coordinator that answers Survey, and the peers that it accepted."""

    server: Server
    peers: list[Peer] = field(default_factory=list)
    asked: list[Frame] = field(default_factory=list)


@pytest.fixture
async def serving(place: Installation) -> AsyncIterator[Serving]:
    place.allow("client/u*", "coordinator/*", "agent/*", "sync/*")
    place.limits = Limits(handshake_s=5.0, idle_s=5.0, links_per_identity_max=2)

    async def handle(peer: Peer, frame: Frame) -> frames.Answer | None:
        coordinator.asked.append(frame)
        return await link_builders.answer_surveys(peer, frame)

    async def opened(peer: Peer) -> None:
        coordinator.peers.append(peer)

    me = place.carrier(COORDINATOR)
    coordinator = Serving((await peers.listen(me, ANY_PORT, handle=handle, opened=opened)).server)
    yield coordinator
    await coordinator.server.close()


async def refusal(client: ForeignClient, **connecting: object) -> Reply:
    """Connect and send the handshake and a Survey at once; return how the connection ended."""
    reply = await client.do("connect", **connecting)
    if not reply.ok:
        return reply
    await client.write(hello(CLIENT) + codec.encode(frames.Survey(request=1)))
    return await client.do("end")


# --- by certificate -------------------------------------------------------------------------------

Holder = Callable[[Installation], Credentials | None]

STRANGERS: dict[str, tuple[str, int, Holder]] = {
    "without a certificate": ("no_certificate", 116, lambda place: None),
    "of another authority": (
        "unknown_authority",
        48,
        lambda place: credentials(an_authority(), CLIENT, trusting=place.authority),
    ),
    "expired": (
        "expired",
        45,
        lambda place: credentials(place.authority, CLIENT, begins_in_s=-2 * DAY_S),
    ),
    "not yet valid": (
        "not_yet_valid",
        45,
        lambda place: credentials(place.authority, CLIENT, begins_in_s=DAY_S),
    ),
    "with a server's certificate": (
        "wrong_usage",
        42,
        lambda place: credentials(place.authority, who(Kind.SYNC, "s1")),
    ),
    "with a label that is not its id's": (
        "label_mismatch",
        42,
        lambda place: mislabelled(place.authority, CLIENT, "admin"),
    ),
    "of another trust domain": (
        "wrong_trust_domain",
        49,
        lambda place: credentials(
            type(place.authority)("other.local", place.authority.certificate, place.authority.key),
            who(Kind.CLIENT, "u1", domain="other.local"),
        ),
    ),
    "of a kind that is not served": (
        "wrong_kind",
        49,
        lambda place: credentials(place.authority, who(Kind.COORDINATOR, "c2")),
    ),
    "that is not on the allowlist": (
        "not_allowed",
        49,
        lambda place: credentials(place.authority, who(Kind.CLIENT, "z9")),
    ),
}


@pytest.mark.parametrize(("code", "alert", "holder"), STRANGERS.values(), ids=list(STRANGERS))
async def test_a_stranger_is_refused_by_name_and_by_the_alert_of_tls(
    client: ForeignClient, ports: Ports, serving: Serving, code: str, alert: int, holder: Holder
) -> None:
    holding = holder(ports.place)
    end = await refusal(client, **ports.connecting(serving.server.address, holding))
    assert (end.code, end["error"], end["by"]) == (code, 0x100 + alert, "server")
    assert (serving.peers, serving.asked) == ([], [])


async def test_a_client_of_another_protocol_is_refused_by_alpn(
    client: ForeignClient, ports: Ports, serving: Serving
) -> None:
    good = ports.connecting(serving.server.address, credentials(ports.place.authority, CLIENT))
    end = await client.do("connect", **{**good, "alpn": "h3"})
    assert (end.ok, end["error"], end["by"]) == (False, 0x100 + 120, "server")
    assert serving.peers == []


async def test_a_client_refuses_a_server_that_is_not_the_one_it_wants(
    client: ForeignClient, ports: Ports, serving: Serving
) -> None:
    good = ports.connecting(serving.server.address, credentials(ports.place.authority, CLIENT))
    end = await client.do("connect", **{**good, "server": who(Kind.SYNC, "s1").uri})
    assert (end.ok, end["by"]) == (False, "client")
    assert serving.peers == []


async def test_an_identity_with_too_many_links_is_refused_by_name(
    client: ForeignClient, ports: Ports, serving: Serving
) -> None:
    good = ports.connecting(serving.server.address, credentials(ports.place.authority, CLIENT))
    for _ in range(2):
        await client.do("connect", **good)
        await client.greet(CLIENT)
    end = await refusal(client, **good)
    assert (end.code, end["error"]) == ("too_many_links", 0x100 + 49)
    assert len(serving.peers) == 2


# Each entry has the code of the refusal, a stream, and the first bytes that the client sends on
# that stream. The server must refuse the client because of these bytes.

FIRST_WORDS: dict[str, tuple[str, int, bytes]] = {
    "another version of the protocol": ("version", 0, hello(CLIENT, version=frames.VERSION + 1)),
    "another's id": ("claim_mismatch", 0, hello(who(Kind.CLIENT, "u2"))),
    "a request instead of the handshake": ("unexpected_frame", 0, codec.encode(frames.Survey())),
    "a handshake that is too large": ("frame_too_large", 0, (5000).to_bytes(4, "big")),
    "no frame": ("malformed_frame", 0, framed(b"\xc1")),
    "a handshake on a stream that is not assigned": ("unknown_stream", 8, hello(CLIENT)),
}


@pytest.mark.parametrize(("code", "stream", "data"), FIRST_WORDS.values(), ids=list(FIRST_WORDS))
async def test_wrong_first_words_are_refused_by_name(
    client: ForeignClient, ports: Ports, serving: Serving, code: str, stream: int, data: bytes
) -> None:
    holding = credentials(ports.place.authority, CLIENT)
    await client.do("connect", **ports.connecting(serving.server.address, holding))
    await client.write(data, stream=stream)
    end = await client.do("end")
    assert (end.code, end["error"], end["by"]) == (code, 1, "server")
    assert serving.peers == []


LATER_WORDS: dict[str, tuple[str, int, bytes]] = {
    "a second handshake": ("unexpected_frame", 0, hello(CLIENT)),
    "a frame that is too large": (
        "frame_too_large",
        BULK_STREAM,
        (frames.FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
    ),
    "no frame": ("malformed_frame", BULK_STREAM, framed(b"\xde\xad\xbe\xef")),
    "a stream that is not assigned": ("unknown_stream", 8, codec.encode(frames.Survey())),
    "what only agents may say": ("not_authorised", 0, codec.encode(frames.Holdings(0, ()))),
}


@pytest.mark.parametrize(("code", "stream", "data"), LATER_WORDS.values(), ids=list(LATER_WORDS))
async def test_wrong_later_words_are_refused_by_name(
    client: ForeignClient, ports: Ports, serving: Serving, code: str, stream: int, data: bytes
) -> None:
    holding = credentials(ports.place.authority, CLIENT)
    await client.do("connect", **ports.connecting(serving.server.address, holding))
    assert (await client.greet(CLIENT))["coordinator_id"] == "c1"
    assert (await client.ask(frames.Survey(request=7))).frame["request"] == 7
    await client.write(data, stream=stream)
    end = await client.do("end")
    assert (end.code, end["error"], end["by"]) == (code, 1, "server")
