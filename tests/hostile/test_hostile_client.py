"""Tests of the hostile client itself: each of its protocol violations is noticed by the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aioquic import tls

from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec, frames
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.carrier import Limits
from tests.support.hostile import crypto_frame, quic_intruder, stream_frame
from tests.support.identity_builders import Installation, credentials, who
from tests.support.link_builders import a_quic_server

pytestmark = pytest.mark.integration

COORDINATOR = who(Kind.COORDINATOR, "c1")
CLIENT = who(Kind.CLIENT, "u1")


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "certs", Limits(handshake_s=2.0))


@pytest.fixture
async def server(place: Installation) -> AsyncIterator[QuicServer]:
    async with a_quic_server(place.carrier(COORDINATOR)) as serving:
        yield serving


async def test_without_a_certificate_it_is_refused(server: QuicServer) -> None:
    async with quic_intruder(server.address, None) as intruder:
        end = await intruder.end()
    assert (end.code, end.error) == ("no_certificate", 0x100 + 116)


async def test_an_injected_stream_frame_is_read_as_one_that_aioquic_sent(
    place: Installation, server: QuicServer
) -> None:
    async with quic_intruder(server.address, credentials(place.authority, CLIENT)) as intruder:
        await intruder.greet(CLIENT)
        intruder.inject(stream_frame(4, 4, codec.encode(frames.Survey(request=3))))
        assert (await intruder.answer())["request"] == 3


async def test_an_injected_frame_of_no_known_type_ends_the_connection(
    place: Installation, server: QuicServer
) -> None:
    async with quic_intruder(server.address, credentials(place.authority, CLIENT)) as intruder:
        await intruder.greet(CLIENT)
        intruder.inject(b"\x3f")
        assert (await intruder.end()).error == 0x7  # FRAME_ENCODING_ERROR


async def test_an_initial_with_a_far_crypto_frame_ends_the_connection(server: QuicServer) -> None:
    async with quic_intruder(server.address, None, begin=False) as intruder:
        intruder.quic.connect(intruder._to, now=asyncio.get_running_loop().time())
        intruder.inject(crypto_frame(1 << 30, b"x").ljust(1160, b"\0"), epoch=tls.Epoch.INITIAL)
        assert (await intruder.end()).error == 0xD  # CRYPTO_BUFFER_EXCEEDED


async def test_a_changed_transport_parameter_reaches_the_server(
    place: Installation, server: QuicServer
) -> None:
    holding = credentials(place.authority, CLIENT)
    changed = {"max_udp_payload_size": 1234, "initial_max_streams_bidi": 3}
    async with quic_intruder(server.address, holding, parameters=changed) as intruder:
        await intruder.greet(CLIENT)
        (wire,) = server._numbers
        assert wire.quic._remote_max_streams_bidi == 3


async def test_it_is_answered_at_the_port_it_moved_to(
    place: Installation, server: QuicServer
) -> None:
    async with quic_intruder(server.address, credentials(place.authority, CLIENT)) as intruder:
        await intruder.greet(CLIENT)
        intruder.move()
        intruder.write(codec.encode(frames.Survey(request=9)))
        assert (await intruder.answer())["request"] == 9


@pytest.mark.parametrize("ending", ["ended", "reset"])
async def test_a_client_that_closes_its_stream_is_closed_and_gives_its_place_back(
    place: Installation, server: QuicServer, ending: str
) -> None:
    async with quic_intruder(server.address, credentials(place.authority, CLIENT)) as intruder:
        await intruder.greet(CLIENT)
        assert len(server._open_links.links) == 1
        if ending == "ended":
            intruder.write(b"", end=True)
        else:
            intruder.quic.reset_stream(0, 7)
            intruder.flush()
        assert (await intruder.end()).code == ""
    assert len(server._open_links.links) == 0
