"""A client that breaks the protocol is refused with the right named reason, on every carrier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import codec, frames
from midstreamer.protocol.connection import BULK_STREAM
from midstreamer.runtime import peer as peers
from midstreamer.telemetry import metrics
from midstreamer.transport.carrier import Limits, Link
from tests.support import hostile
from tests.support.hostile import Ground, Intruder, a_frame, framed, hello
from tests.support.hostile_websocket import GROUNDS
from tests.support.identity_builders import who
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

COORDINATOR = who(Kind.COORDINATOR, "c1")
AGENT = who(Kind.AGENT, "a1")
CLIENT = who(Kind.CLIENT, "u1")
LIMITS = Limits(handshake_s=1.0, idle_s=5.0, links_per_identity_max=2)


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    return GROUNDS[request.param](tmp_path, LIMITS)


async def say(ground: Ground, me: Identity, *parts: bytes, stream: int = 0) -> hostile.End:
    """Connect as this identity and first of all send these bytes; return how the connection ended.

    Check that the server opened no link.
    """
    links: list[Link] = []

    async def serve(link: Link) -> None:
        links.append(link)

    server = await ground.carrier(COORDINATOR).serve(ground.address, serve)
    async with ground.intruder(server.address, me) as intruder:
        for part in parts:
            intruder.write(part, stream=stream)
        end = await intruder.end()
    await server.close()
    assert links == []
    return end


AS_FIRST: dict[str, tuple[str, bytes]] = {
    "another version of the protocol": ("version", hello(AGENT, version=frames.VERSION + 1)),
    "another's id": ("claim_mismatch", hello(who(Kind.AGENT, "a2"))),
    "another kind": ("claim_mismatch", hello(who(Kind.CLIENT, "a1"))),
    "a request instead of the handshake": ("unexpected_frame", codec.encode(frames.Survey())),
    "a length beyond the handshake's": ("frame_too_large", (5000).to_bytes(4, "big")),
    "another protocol's words": ("frame_too_large", b"GET / HTTP/1.1\r\n\r\n"),
    "no msgpack": ("malformed_frame", framed(b"\xc1")),
    "a map without a frame's name": ("malformed_frame", framed(b"\x80")),
    "a frame of no known name": ("unexpected_frame", a_frame("Surprise")),
    "a handshake without its fields": ("malformed_frame", a_frame("AgentHandshake")),
    "a text that is not UTF-8": ("malformed_frame", framed(b"\x81\xa5frame\xa1\xff")),
}


@pytest.mark.parametrize(("code", "data"), AS_FIRST.values(), ids=list(AS_FIRST))
async def test_a_wrong_first_frame_is_refused_by_name(
    ground: Ground, code: str, data: bytes
) -> None:
    assert (await say(ground, AGENT, data)).code == code


@pytest.mark.parametrize("stream", [4, 8])
async def test_a_stream_that_was_not_assigned_is_refused_by_name(
    ground: Ground, stream: int
) -> None:
    end = await say(ground, AGENT, hello(AGENT), stream=stream)
    assert (end.code, end.message) == (
        "unknown_stream",
        f"stream {stream} is not assigned: use 0",
    )


async def test_a_handshake_that_does_not_come_is_refused_by_name(ground: Ground) -> None:
    assert (await say(ground, AGENT)).code == "handshake_timeout"


# --- after the handshake --------------------------------------------------------------------------

Wrong = Callable[[Intruder], None]


def _too_large(intruder: Intruder) -> None:
    intruder.write((frames.FRAME_BYTES_MAX + 1).to_bytes(4, "big"), stream=BULK_STREAM)


def _second_hello(intruder: Intruder) -> None:
    intruder.write(hello(CLIENT))


def _malformed(intruder: Intruder) -> None:
    intruder.write(framed(b"\xde\xad\xbe\xef"), stream=BULK_STREAM)


def _unknown_stream(intruder: Intruder) -> None:
    intruder.write(codec.encode(frames.Survey()), stream=8)


def _not_authorised(intruder: Intruder) -> None:
    intruder.write(codec.encode(frames.Holdings(0, ())))


def _answer_of_a_server(intruder: Intruder) -> None:
    intruder.write(codec.encode(frames.Surveyed()))


AFTERWARDS: dict[str, tuple[str, Wrong]] = {
    "a second handshake": ("unexpected_frame", _second_hello),
    "a frame that is too large": ("frame_too_large", _too_large),
    "no frame at all": ("malformed_frame", _malformed),
    "a stream that was not assigned": ("unknown_stream", _unknown_stream),
    "a frame of another kind": ("not_authorised", _not_authorised),
    "a frame that only servers send": ("not_authorised", _answer_of_a_server),
}


@pytest.mark.parametrize(("code", "wrong"), AFTERWARDS.values(), ids=list(AFTERWARDS))
async def test_a_wrong_later_frame_is_refused_by_name(
    ground: Ground, code: str, wrong: Wrong
) -> None:
    me = ground.carrier(COORDINATOR)
    server = await peers.listen(me, ground.address, handle=answer_surveys)
    async with ground.intruder(server.address, CLIENT) as intruder:
        await intruder.greet(CLIENT)
        intruder.write(codec.encode(frames.Survey(request=7)))
        assert (await intruder.answer())["request"] == 7
        wrong(intruder)
        end = await intruder.end()
    await server.close()
    assert end.code == code


async def test_frames_of_unknown_names_leave_the_link_open_at_any_rate(ground: Ground) -> None:
    before = metrics.SKIPPED_FRAMES.labels("client")._value.get()
    server = await peers.listen(ground.carrier(COORDINATOR), ground.address, handle=answer_surveys)
    async with ground.intruder(server.address, CLIENT) as intruder:
        await intruder.greet(CLIENT)
        for _ in range(500):
            intruder.write(a_frame("Surprise", word="x"))
        intruder.write(a_frame("Surprise", request=6, budget_s=1.0))
        refusal = await intruder.answer()
        intruder.write(codec.encode(frames.Survey(request=7)))
        assert (await intruder.answer())["request"] == 7
    await server.close()
    assert (refusal["request"], refusal["code"]) == (6, "unsupported")
    assert "Surprise" in refusal["message"]
    assert metrics.SKIPPED_FRAMES.labels("client")._value.get() == before + 501


async def test_a_flood_of_cancels_costs_the_next_user_nothing(ground: Ground) -> None:
    server = await peers.listen(ground.carrier(COORDINATOR), ground.address, handle=answer_surveys)
    async with ground.intruder(server.address, CLIENT) as intruder:
        await intruder.greet(CLIENT)
        for number in range(2000):
            intruder.write(codec.encode(frames.Cancel(number)))
        intruder.write(codec.encode(frames.Survey(request=7)))
        assert (await intruder.answer())["request"] == 7
    await server.close()
