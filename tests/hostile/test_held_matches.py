"""Memory is bounded for the waiting Matches of one identity and the feeds of one connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from midstreamer.domain.errors import Overloaded
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Window
from midstreamer.protocol import frames
from midstreamer.runtime.peer import Peer, dial
from tests.hostile.test_bounds import running
from tests.support.fleet import a_column, a_specification, a_window, append, eventually, match
from tests.support.identity_builders import who

pytestmark = [pytest.mark.integration, pytest.mark.each_carrier]

POINTS = 4096
WINDOWS = 90
MATCHES = 50
FOLLOWERS = 20


async def late(peer: Peer) -> None:
    """Send a Match of three megabytes that waits for a position that the test never reaches."""
    values = np.ones(POINTS).tobytes()
    windows = tuple(Window("", place, values) for place in range(WINDOWS))
    specification = a_specification(window=POINTS, neighbours=1)
    await peer.drained()
    await peer.ask(
        frames.Match(specification=specification, windows=windows, at_least=9000, record=False),
        budget_s=8.0,
    )


async def test_matches_that_wait_hold_a_share_of_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        other = await fleet.client("other")
        await append(other, history := a_column(100))
        await fleet.settled()
        peers = [await fleet.client("greedy") for _ in range(10)]
        waiting = [asyncio.create_task(late(peers[place % 10])) for place in range(MATCHES)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(Overloaded, match="matches of client/greedy under way take"):
            await done.pop()
        assert (await match(other, a_specification(), a_window(history, 99, 16))).decisions
        await asyncio.gather(*waiting, return_exceptions=True)
        await eventually(lambda: not fleet.coordinator._match_bytes.taken)


async def test_a_connection_follows_the_feed_once_whatever_it_asks(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        carrier = fleet.place.carrier(who(Kind.AGENT, "a9"))
        peer = await dial(carrier, fleet.services[0].address, expect=Kind.SYNC)  # type: ignore[union-attr]
        feeds = [peer.follow(frames.Tail(after=0)) for _ in range(FOLLOWERS)]
        for feed in feeds:
            await anext(feed)
        # A connection follows one feed: each Tail ends the feed of the Tail before it. The queue
        # of an ended feed keeps the changes received until then, and must get no more.
        left = [queue.qsize() for queue in peer._following.values()]
        reached = await append(await fleet.client("other"), a_column(20))
        with suppress(StopAsyncIteration):
            while (await anext(feeds[-1])).position < reached.position:
                pass
        assert [queue.qsize() for queue in peer._following.values()] == left
        await peer.close()
