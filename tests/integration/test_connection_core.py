"""The connection state machine of a load test's user, without gevent, against a real server."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadtests import identities
from loadtests.connection_core import Machine, answer_of
from midstreamer.domain.errors import LinkClosed, MidstreamerError, Refused
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Listener, Peer
from midstreamer.transport.carrier import Limits
from tests.support.identity_builders import Installation, who
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

WITHIN_S = 10.0


class Driven:
    """A connection state machine with a UDP socket, which a test drives until a condition holds."""

    def __init__(self, place: Installation, name: str, address: str, limits: Limits) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect((host, int(port)))
        trust = identities.trust(place.directory, who(Kind.CLIENT, name), limits)
        self.machine = Machine(trust, (host, int(port)), Kind.COORDINATOR)
        self.machine.start(time.monotonic())
        self.answers: dict[int, frames.Answer | MidstreamerError] = {}

    async def until(self, holds: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                self._send()
                left_s = min(0.05, max(0.0, self.machine.next_wakeup_s() - time.monotonic()))
                try:
                    data = await asyncio.wait_for(loop.sock_recv(self.socket, 65_536), left_s)
                    self.machine.datagram(data, time.monotonic())
                except TimeoutError:
                    self.machine.wake(time.monotonic())
                self._hear()
        self._send()

    async def ask(self, budget_s: float = 5.0) -> frames.Answer | MidstreamerError:
        number = self.machine.ask(frames.Survey(), time.monotonic(), budget_s=budget_s)
        await self.until(lambda: number in self.answers)
        return self.answers[number]

    def _hear(self) -> None:
        for effect in self.machine.news():
            ended = answer_of(effect)
            if ended is not None:
                self.answers[ended[0]] = ended[1]

    def _send(self) -> None:
        now_s = time.monotonic()
        over = self.machine.ended is not None
        for data in self.machine.farewell(now_s) if over else self.machine.outgoing(now_s):
            self.socket.send(data)


@asynccontextmanager
async def met(
    tmp_path: Path, limits: Limits | None = None
) -> AsyncIterator[tuple[Driven, Listener, list[Peer]]]:
    place, accepted = Installation(tmp_path), list[Peer]()

    async def opened(peer: Peer) -> None:
        accepted.append(peer)

    carrier = place.carrier(who(Kind.COORDINATOR, "c1"))
    listening = await peers.listen(carrier, "127.0.0.1:0", handle=answer_surveys, opened=opened)
    driven = Driven(place, "u1", listening.server.address, limits or Limits())
    await driven.until(lambda: driven.machine.opened)
    driven.machine.talk(time.monotonic())
    try:
        yield driven, listening, accepted
    finally:
        driven.socket.close()
        await listening.close()


async def test_requests_are_answered_and_the_transport_is_known(tmp_path: Path) -> None:
    async with met(tmp_path) as (driven, _, _):
        answers = [await driven.ask() for _ in range(3)]
        assert all(isinstance(each, frames.Surveyed) for each in answers)
        figures = driven.machine.figures()
        assert figures is not None
        assert 0 < figures.rtt_s < WITHIN_S
        assert figures.window_bytes > 0
        assert figures.lost_packets == 0


async def test_a_link_that_drains_takes_no_more_requests_and_says_so(tmp_path: Path) -> None:
    async with met(tmp_path) as (driven, _, accepted):
        accepted[0].drain(leaving=True)
        await driven.until(lambda: driven.machine.draining)
        with pytest.raises(LinkClosed, match="takes no more requests"):
            driven.machine.ask(frames.Survey(), time.monotonic(), budget_s=1.0)
        settled = asyncio.create_task(accepted[0].settled())
        # The client has answered with Drain, so the server knows that no request will come. The
        # link is settled, although it is still open.
        await driven.until(settled.done)
        assert not accepted[0].closed


async def test_what_is_under_way_fails_when_the_link_ends(tmp_path: Path) -> None:
    async with met(tmp_path) as (driven, _, _):
        number = driven.machine.ask(frames.Survey(), time.monotonic(), budget_s=5.0)
        driven.machine.close(time.monotonic())
        driven._hear()
        assert isinstance(driven.answers[number], LinkClosed)
        assert driven.machine.next_wakeup_s() == math.inf


async def test_a_quiet_link_lives_on_and_a_server_that_closes_is_noticed(tmp_path: Path) -> None:
    async with met(tmp_path, Limits(idle_s=1.0)) as (driven, listening, _):
        begin_s = time.monotonic()
        await driven.until(lambda: time.monotonic() - begin_s > 2.5 or driven.machine.over)
        assert not driven.machine.over
        await listening.close()
        await driven.until(lambda: driven.machine.over)


async def test_a_server_of_another_kind_is_refused(tmp_path: Path) -> None:
    place = Installation(tmp_path)
    listening = await peers.listen(
        place.carrier(who(Kind.SYNC, "s1")), "127.0.0.1:0", handle=answer_surveys
    )
    driven = Driven(place, "u1", listening.server.address, Limits())
    await driven.until(lambda: driven.machine.over)
    assert isinstance(driven.machine.ended, Refused)
    assert driven.machine.ended.reason == "wrong_kind"
    driven.socket.close()
    await listening.close()
