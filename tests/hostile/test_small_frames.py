"""Many small frames at once, or a Lookup of too many ids, never block the event loop or a link."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from midstreamer.domain.errors import BadInput
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from tests.hostile.test_bounds import Held, columns, running
from tests.support.fleet import a_column, append, eventually
from tests.support.hostile import a_frame, hello, quic_intruder, stream_frame
from tests.support.identity_builders import credentials, who

pytestmark = [pytest.mark.integration, pytest.mark.each_carrier]

GREEDY = who(Kind.CLIENT, "greedy")
TURN_S_MAX = 0.25
"""Maximum time of one turn of the event loop, in seconds.

A turn reads 16 kB, which is about 900 requests. This takes 50 ms, and up to 150 ms when coverage is
measured on a busy machine. Reading all requests in one turn took 502 ms without coverage.
"""
BYTES = 900_000
PACKET_BYTES = 8000


async def test_small_frames_that_are_all_there_at_once_do_not_hold_the_loop(tmp_path: Path) -> None:
    survey = a_frame("Survey")
    body, begin = survey * (BYTES // len(survey)), len(hello(GREEDY))
    async with running(tmp_path) as fleet:
        holding = credentials(fleet.place.authority, GREEDY)
        async with quic_intruder(fleet.coordinator.address, holding) as intruder:
            await intruder.greet(GREEDY)
            for at in range(1, len(body), PACKET_BYTES):
                part = body[at : at + PACKET_BYTES]
                intruder.inject(stream_frame(0, begin + at, part))
                await asyncio.sleep(0)
            held = Held()
            watching = asyncio.create_task(held.watch())
            intruder.inject(stream_frame(0, begin, body[:1]))
            await eventually(lambda: intruder.received_bytes > BYTES)
            watching.cancel()
        assert held.most_s < TURN_S_MAX
        await append(await fleet.client("other"), a_column(20))


async def test_a_lookup_of_too_many_never_reaches_the_link_to_sync(tmp_path: Path) -> None:
    many = tuple(number.to_bytes(3, "big") for number in range(frames.DECISIONS_MAX + 1))
    async with running(tmp_path) as fleet:
        greedy = await fleet.client("greedy")
        # Stop sync: if the coordinator forwarded this Lookup to sync, the error would not be
        # BadInput.
        fleet.tasks[0].cancel()
        await asyncio.wait([fleet.tasks[0]])
        with pytest.raises(BadInput, match="257 experiences in one Lookup, at most 256"):
            await greedy.ask(frames.Lookup(experience_ids=many, budget_s=3.0))


async def test_many_surveys_at_once_do_not_fill_the_link_from_sync(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        greedy = [await fleet.client(name) for name in ("greedy", "greedier")]
        for peer, letter in zip(greedy, "ab", strict=True):
            await append(peer, *columns(1024, universe=letter * 110))
        await fleet.settled()
        survey = frames.Survey(budget_s=20.0)
        answers = await asyncio.gather(*(peer.ask(survey) for peer in greedy for _ in range(60)))
        # A link that holds its maximum of bytes to send drops every further frame. If sync's link
        # to the coordinator had dropped an answer, some request would be without one.
        assert all(isinstance(answer, frames.Surveyed) for answer in answers)
