"""A client with a forged session ticket is not accepted without a certificate."""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # it is re-exported all the same
from aioquic.quic.connection import MAX_EARLY_DATA
from aioquic.quic.packet import QuicTransportParameters, push_quic_transport_parameters

from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec, frames
from midstreamer.transport.carrier import Limits, Link, Server
from tests.support.hostile import QuicIntruder, hello, quic_intruder
from tests.support.identity_builders import Installation, credentials, who

pytestmark = pytest.mark.integration

CLIENT = who(Kind.CLIENT, "u1")
EARLY = hello(CLIENT) + codec.encode(frames.Survey(request=1))


@dataclass
class Serving:
    """A coordinator, and the links that its handshakes opened."""

    place: Installation
    links: list[Link] = field(default_factory=list)
    server: Server = field(init=False)

    async def serve(self, link: Link) -> None:
        self.links.append(link)
        await link.receive()


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    coordinator = Serving(Installation(tmp_path / "certs", Limits(handshake_s=2.0)))
    carrier = coordinator.place.carrier(who(Kind.COORDINATOR, "c1"))
    coordinator.server = await carrier.serve("127.0.0.1:0", coordinator.serve)
    yield coordinator
    await coordinator.server.close()


def a_forged_ticket() -> tls.SessionTicket:
    """Return a session ticket that no server issued and that allows data before the handshake."""
    buffer = Buffer(capacity=256)
    wide = QuicTransportParameters(
        initial_max_data=1 << 20,
        initial_max_stream_data_bidi_remote=1 << 20,
        initial_max_streams_bidi=8,
    )
    push_quic_transport_parameters(buffer, wide)
    now = datetime.datetime.now(datetime.UTC)
    return tls.SessionTicket(
        age_add=0,
        cipher_suite=tls.CipherSuite.AES_128_GCM_SHA256,
        not_valid_after=now + datetime.timedelta(hours=1),
        not_valid_before=now - datetime.timedelta(hours=1),
        resumption_secret=os.urandom(32),
        server_name=None,  # type: ignore[arg-type]  # the configuration has none either
        ticket=os.urandom(64),
        max_early_data_size=MAX_EARLY_DATA,
        other_extensions=[(tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS, buffer.data)],
    )


def speak_early(intruder: QuicIntruder) -> bool:
    """Send `EARLY` with the first packets; return whether the client had 0-RTT keys for it."""
    intruder.begin()
    intruder.quic.send_stream_data(0, EARLY)
    intruder.flush()
    return intruder.quic._cryptos[tls.Epoch.ZERO_RTT].send.is_valid()


async def test_a_forged_ticket_with_early_data_is_refused_without_a_certificate(
    serving: Serving,
) -> None:
    ticket = a_forged_ticket()
    async with quic_intruder(
        serving.server.address, None, begin=False, session_ticket=ticket
    ) as intruder:
        assert speak_early(intruder)
        end = await intruder.end()
    assert (end.code, end.error) == ("no_certificate", 0x100 + 116)
    assert serving.links == []


async def test_a_forged_ticket_beside_a_certificate_is_ignored(serving: Serving) -> None:
    holding = credentials(serving.place.authority, CLIENT)
    async with quic_intruder(
        serving.server.address, holding, begin=False, session_ticket=a_forged_ticket()
    ) as intruder:
        assert speak_early(intruder)
        assert (await intruder.answer())["frame"] == "CoordinatorAck"
        assert not intruder.quic.tls.session_resumed
        assert not intruder.quic.tls.early_data_accepted
    assert [link.peer for link in serving.links] == [CLIENT]
