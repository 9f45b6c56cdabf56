"""A peer without a valid identity is refused before the application gets a byte from it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from structlog.testing import capture_logs

from midstreamer.domain.errors import LinkClosed, Refused
from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec, frames
from midstreamer.runtime import peer as peers
from midstreamer.security import files
from midstreamer.security.credentials import Credentials
from midstreamer.telemetry import metrics
from midstreamer.transport.carrier import Link, Server
from tests.support.identity_builders import (
    DAY_S,
    DOMAIN,
    Installation,
    an_authority,
    behind_an_intermediate,
    credentials,
    mislabelled,
    who,
)
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

ANY_PORT = "127.0.0.1:0"
AGENT = who(Kind.AGENT, "a1")
COORDINATOR = who(Kind.COORDINATOR, "c1")


@dataclass
class Application:
    """The application behind a server; it fails the test if it gets a refused peer."""

    links: list[Link] = field(default_factory=list)

    async def serve(self, link: Link) -> None:
        self.links.append(link)
        await link.receive()


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "certs")


def counted(reason: str) -> float:
    return float(metrics.HANDSHAKES.labels(reason)._value.get())


# --- tests of clients that a server refuses -------------------------------------------------------

Holder = Callable[[Installation], Credentials]

CLIENTS: dict[str, tuple[str, Holder]] = {
    "of another authority": (
        "unknown_authority",
        lambda place: credentials(an_authority(), AGENT, trusting=place.authority),
    ),
    "expired": (
        "expired",
        lambda place: credentials(place.authority, AGENT, begins_in_s=-2 * DAY_S),
    ),
    "not yet valid": (
        "not_yet_valid",
        lambda place: credentials(place.authority, AGENT, begins_in_s=DAY_S),
    ),
    "with a server's certificate": (
        "wrong_usage",
        lambda place: credentials(place.authority, who(Kind.SYNC, "s1")),
    ),
    "with a label that is not its id's": (
        "label_mismatch",
        lambda place: mislabelled(place.authority, AGENT, "admin"),
    ),
    "of another trust domain": (
        "wrong_trust_domain",
        lambda place: credentials(
            type(place.authority)("other.local", place.authority.certificate, place.authority.key),
            who(Kind.AGENT, "a1", domain="other.local"),
        ),
    ),
    "of a kind that is not served": (
        "wrong_kind",
        lambda place: credentials(place.authority, who(Kind.COORDINATOR, "c2")),
    ),
    "that is not on the allowlist": (
        "not_allowed",
        lambda place: credentials(place.authority, who(Kind.AGENT, "z9")),
    ),
}


@pytest.mark.each_carrier
@pytest.mark.parametrize(("reason", "holder"), CLIENTS.values(), ids=list(CLIENTS))
async def test_a_client_is_refused_before_the_application_sees_a_byte(
    place: Installation, reason: str, holder: Holder
) -> None:
    place.allow("agent/a*", "coordinator/*", "sync/*")
    application, before = Application(), counted(reason)
    server = await place.carrier(COORDINATOR).serve(ANY_PORT, application.serve)
    with capture_logs() as logged, pytest.raises(Refused) as refused:
        await place.carrier(holder(place)).dial(server.address, expect=Kind.COORDINATOR)
    await server.close()
    assert refused.value.reason == reason
    assert application.links == []
    assert counted(reason) == before + 1
    assert [line["reason"] for line in logged if line["event"] == "peer.refused"] == [reason]


@pytest.mark.each_carrier
@pytest.mark.parametrize("shown", [True, False])
async def test_an_intermediate_counts_when_it_is_shown(place: Installation, shown: bool) -> None:
    application = Application()
    agent = behind_an_intermediate(AGENT, shown=shown)
    own = credentials(place.authority, COORDINATOR)
    serving = dataclasses.replace(own, anchors=(*own.anchors, *agent.anchors))
    dialling = dataclasses.replace(agent, anchors=own.anchors)
    server = await place.carrier(serving).serve(ANY_PORT, application.serve)
    dial = place.carrier(dialling).dial(server.address, expect=Kind.COORDINATOR)
    if shown:
        await (await dial).close()
    else:
        with pytest.raises(Refused) as refused:
            await dial
        assert refused.value.reason == "unknown_authority"
    await server.close()


async def test_a_client_without_a_certificate_is_refused(place: Installation) -> None:
    application, before = Application(), counted("no_certificate")
    server = await place.carrier(COORDINATOR).serve(ANY_PORT, application.serve)
    end = await stranger(server, None, codec.encode(frames.AgentHandshake("a1", "agent", 1)))
    await server.close()
    assert end.error_code == 0x100 + 116  # certificate_required
    assert end.reason_phrase.startswith("no_certificate: ")
    assert application.links == []
    assert counted("no_certificate") == before + 1


# --- tests of servers that a client refuses -------------------------------------------------------

SERVERS: dict[str, tuple[str, Holder]] = {
    "of another authority": (
        "unknown_authority",
        lambda place: credentials(an_authority(), COORDINATOR, trusting=place.authority),
    ),
    "expired": (
        "expired",
        lambda place: credentials(place.authority, COORDINATOR, begins_in_s=-2 * DAY_S),
    ),
    "with a client's certificate": (
        "wrong_usage",
        lambda place: credentials(place.authority, AGENT),
    ),
    "of the wrong kind": (
        "wrong_kind",
        lambda place: credentials(place.authority, who(Kind.SYNC, "s1")),
    ),
    "that is not on the allowlist": (
        "not_allowed",
        lambda place: credentials(place.authority, who(Kind.COORDINATOR, "z9")),
    ),
}


@pytest.mark.each_carrier
@pytest.mark.parametrize(("reason", "holder"), SERVERS.values(), ids=list(SERVERS))
async def test_a_server_is_refused_before_it_sees_a_byte(
    place: Installation, reason: str, holder: Holder
) -> None:
    place.allow("agent/*", "coordinator/c*", "sync/*")
    application, before = Application(), counted(reason)
    server = await place.carrier(holder(place)).serve(ANY_PORT, application.serve)
    with capture_logs() as logged, pytest.raises(Refused) as refused:
        await place.carrier(AGENT).dial(server.address, expect=Kind.COORDINATOR)
    await server.close()
    assert refused.value.reason == reason
    assert application.links == []
    assert counted(reason) == before + 1
    assert any(line["event"] == "peer.refused" for line in logged)


# --- tests of false names in the handshake, and of the allowlist ----------------------------------


@pytest.mark.each_carrier
async def test_anothers_agent_id_in_the_handshake_closes_the_connection(
    place: Installation,
) -> None:
    application, before = Application(), counted("claim_mismatch")
    server = await place.carrier(COORDINATOR).serve(ANY_PORT, application.serve)
    honest = credentials(place.authority, AGENT)
    liar = Credentials(who(Kind.AGENT, "a2"), honest.certificate, (), honest.key, honest.anchors)
    with pytest.raises(Refused, match="handshake claims agent/a2, certificate says agent/a1"):
        await place.carrier(liar).dial(server.address, expect=Kind.COORDINATOR)
    await server.close()
    assert application.links == []
    assert counted("claim_mismatch") == before + 1


@pytest.mark.each_carrier
async def test_who_is_taken_off_the_list_loses_its_live_connection(place: Installation) -> None:
    server = await peers.listen(place.carrier(COORDINATOR), ANY_PORT, handle=answer_surveys)
    client = who(Kind.CLIENT, "u1")
    peer = await peers.dial(place.carrier(client), server.address, expect=Kind.COORDINATOR)
    await peer.ask(frames.Survey())
    place.allow("coordinator/*")
    with capture_logs() as logged:
        await asyncio.wait_for(peer.wait_closed(), 5)
    assert ("peer.removed", "not_allowed") in [
        (line["event"], line.get("reason")) for line in logged
    ]
    with pytest.raises(LinkClosed, match="not_allowed"):
        await peer.ask(frames.Survey())
    await server.close()


@pytest.mark.each_carrier
async def test_a_server_that_is_taken_off_the_list_is_left(place: Installation) -> None:
    server = await peers.listen(place.carrier(COORDINATOR), ANY_PORT, handle=answer_surveys)
    dialling = place.carrier(AGENT)
    peer = await peers.dial(dialling, server.address, expect=Kind.COORDINATOR)
    place.allow("agent/*")
    dialling.look()
    await asyncio.wait_for(peer.wait_closed(), 5)
    with pytest.raises(LinkClosed, match="by this side: not_allowed"):
        await peer.ask(frames.Survey())
    await server.close()


@pytest.mark.each_carrier
async def test_nobody_gets_in_by_an_error_of_the_judge(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = Application()
    server = await place.carrier(COORDINATOR).serve(ANY_PORT, application.serve)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("midstreamer.security.admission.CHECKS", (broken,))
    end = await stranger(server, credentials(place.authority, AGENT), b"")
    await server.close()
    assert end.error_code == 0x100 + 80  # internal_error
    assert application.links == []


@pytest.mark.each_carrier
async def test_a_broken_allowlist_changes_nothing_and_is_complained_about_once(
    place: Installation,
) -> None:
    carrier, client = place.carrier(COORDINATOR), place.carrier(who(Kind.CLIENT, "u1"))
    server = await peers.listen(carrier, ANY_PORT, handle=answer_surveys)
    place.allowlist_path.write_text("agent/*\nwizard/*\n")
    with capture_logs() as logged:
        carrier.look()
        carrier.look()
    complaints = [line["detail"] for line in logged if line["event"] == "security.unchanged"]
    assert len(complaints) == 1
    assert "line 2" in complaints[0]
    peer = await peers.dial(client, server.address, expect=Kind.COORDINATOR)
    assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)
    await peer.close()
    await server.close()


# a client on plain aioquic, with none of our code


class Stranger(QuicConnectionProtocol):
    """A plain aioquic client, with none of our code, that records how its connection ended."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.ended: asyncio.Future[events.ConnectionTerminated] = self._loop.create_future()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.ConnectionTerminated) and not self.ended.done():
            self.ended.set_result(event)


async def stranger(
    server: Server, holding: Credentials | None, data: bytes, *, alpn: str = frames.ALPN
) -> events.ConnectionTerminated:
    """Connect with a plain aioquic client, send bytes, and return how the connection ended."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE
    )
    if holding is not None:
        configuration.certificate = holding.certificate
        configuration.private_key = holding.key
    host, _, port = server.address.rpartition(":")
    async with connect(
        host, int(port), configuration=configuration, create_protocol=Stranger
    ) as spoken:
        assert isinstance(spoken, Stranger)
        spoken._quic.send_stream_data(0, data)
        spoken.transmit()
        return await asyncio.wait_for(spoken.ended, 5)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ((100 * 1024 * 1024).to_bytes(4, "big"), "frame_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "frame_too_large"),
        (b"\x00\x00\x00\x04\xde\xad\xbe\xef", "malformed_frame"),
        (codec.encode(frames.Survey()), "unexpected_frame"),
        (codec.encode(frames.AgentHandshake("a1", "agent", frames.VERSION + 1)), "version"),
    ],
)
async def test_a_certified_stranger_that_breaks_the_rules_is_told_which(
    place: Installation, data: bytes, code: str
) -> None:
    application = Application()
    server = await place.carrier(COORDINATOR).serve(ANY_PORT, application.serve)
    end = await stranger(server, credentials(place.authority, AGENT), data)
    await server.close()
    assert end.reason_phrase.startswith(f"{code}: ")
    assert application.links == []


async def test_a_frame_of_100_mb_is_refused_by_its_length(place: Installation) -> None:
    application = Application()
    server = await place.carrier(COORDINATOR).serve(ANY_PORT, application.serve)
    hello = codec.encode(frames.AgentHandshake("a1", "agent", frames.VERSION))
    claim = (100 * 1024 * 1024).to_bytes(4, "big")
    end = await stranger(server, credentials(place.authority, AGENT), hello + claim)
    await server.close()
    assert end.reason_phrase.startswith("frame_too_large: frame of 104,857,600 B exceeds")


async def test_a_stranger_of_another_protocol_is_turned_away_and_counted(
    place: Installation,
) -> None:
    application, before = Application(), counted("handshake_failed")
    server = await place.carrier(COORDINATOR).serve(ANY_PORT, application.serve)
    holding = credentials(place.authority, AGENT)
    with pytest.raises(ConnectionError):
        await stranger(server, holding, b"", alpn="h3")
    await server.close()
    assert application.links == []
    assert counted("handshake_failed") == before + 1


async def test_random_bytes_at_the_port_do_nothing(place: Installation) -> None:
    server = await peers.listen(place.carrier(COORDINATOR), ANY_PORT, handle=answer_surveys)
    host, _, port = server.address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        for size in (0, 1, 20, 1200, 1472, 9000):
            for first in (0x00, 0x40, 0x80, 0xC0, 0xFF):
                noise.sendto(bytes([first]) + os.urandom(size), (host, int(port)))
                noise.sendto(b"\xc0\x00\x00\x00\x01\x08" + os.urandom(size), (host, int(port)))
    client = place.carrier(who(Kind.CLIENT, "u1"))
    peer = await peers.dial(client, server.address, expect=Kind.COORDINATOR)
    assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)
    await peer.close()
    await server.close()


# tests of certificates that change while processes run


@pytest.mark.each_carrier
async def test_new_certificates_count_for_new_connections_without_a_restart(
    place: Installation,
) -> None:
    carrier = place.carrier(COORDINATOR)
    server = await peers.listen(carrier, ANY_PORT, handle=answer_surveys)
    client = place.carrier(who(Kind.CLIENT, "u1"))
    old = await peers.dial(client, server.address, expect=Kind.COORDINATOR)
    before = carrier._trust.current.certificate.serial_number
    files.issue(place.authority, COORDINATOR, place.directory)
    carrier.look()
    assert carrier._trust.current.certificate.serial_number != before
    new = await peers.dial(client, server.address, expect=Kind.COORDINATOR)
    for peer in (old, new):  # both connections stay open after the certificate changed
        assert isinstance(await peer.ask(frames.Survey()), frames.Surveyed)
        await peer.close()
    await server.close()


@pytest.mark.each_carrier
async def test_an_authority_that_is_no_longer_trusted_takes_its_peers_along(
    place: Installation,
) -> None:
    carrier = place.carrier(COORDINATOR)
    server = await peers.listen(carrier, ANY_PORT, handle=answer_surveys)
    client = place.carrier(credentials(place.authority, who(Kind.CLIENT, "u1")))
    peer = await peers.dial(client, server.address, expect=Kind.COORDINATOR)
    elsewhere = place.directory / "elsewhere"
    files.init_authority(elsewhere, DOMAIN)
    files.trust_path(elsewhere).replace(files.trust_path(place.directory))
    await asyncio.wait_for(peer.wait_closed(), 5)
    with pytest.raises(LinkClosed, match="unknown_authority"):
        await peer.ask(frames.Survey())
    await server.close()
