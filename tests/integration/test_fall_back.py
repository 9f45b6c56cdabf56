"""When the network drops UDP, a session moves to WebSocket, and later back to QUIC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aioquic.quic.connection import QuicConnection

from midstreamer.domain.errors import Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import carrier_choice
from midstreamer.runtime import peer as peers
from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.carrier_choice import Ways
from midstreamer.runtime.peer import Session
from midstreamer.transport.address import Scheme
from midstreamer.transport.aioquic.sockets import DatagramSocket
from midstreamer.transport.carrier import Limits
from tests.support.fleet import eventually
from tests.support.identity_builders import Installation, who
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

LIMITS = Limits(handshake_s=5.0, idle_s=5.0)


class _Udp:
    """Drops the UDP datagrams that this process sends, while `dropped` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dropped = False
        send = DatagramSocket.send

        def maybe(sock: DatagramSocket, *datagram: object) -> None:
            if not self.dropped:
                send(sock, *datagram)  # type: ignore[arg-type]

        monkeypatch.setattr(DatagramSocket, "send", maybe)


@pytest.fixture
def udp(monkeypatch: pytest.MonkeyPatch) -> _Udp:
    return _Udp(monkeypatch)


@asynccontextmanager
async def _a_session(place: Installation) -> AsyncIterator[Session]:
    server = await peers.listen(
        place.carriers(who(Kind.COORDINATOR)), "quic+wss://127.0.0.1:0", handle=answer_surveys
    )
    dialling = place.carriers(who(Kind.CLIENT))
    session = Session(dialling, server.address, expect=Kind.COORDINATOR)
    running = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        running.cancel()
        await asyncio.wait({running})
        await server.close()


async def _ask(session: Session) -> float:
    """Repeat a Survey until it is answered, as the SDK does; return the seconds it took."""
    began_s = time.monotonic()
    while True:
        try:
            await session.ask(frames.Survey(), budget_s=10)
        except Unavailable:
            await asyncio.sleep(0.01)
        else:
            return time.monotonic() - began_s


def _carrier(session: Session) -> Scheme | None:
    return session.peer.scheme if session.peer else None


async def test_a_session_leaves_a_silent_carrier_within_3_s_and_comes_back(
    tmp_path: Path, udp: _Udp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier_choice, "BACK", Backoff(first_s=1.0, most_s=1.0))
    async with _a_session(Installation(tmp_path, LIMITS)) as session:
        await _ask(session)
        assert _carrier(session) is Scheme.QUIC
        udp.dropped = True
        assert await _ask(session) < 3.0
        assert _carrier(session) is Scheme.WSS
        udp.dropped = False
        slowest = 0.0
        async with asyncio.timeout(10):
            while _carrier(session) is not Scheme.QUIC:
                slowest = max(slowest, await _ask(session))
        assert slowest < 0.5  # no request waits while the session moves back


async def test_a_quiet_link_falls_silent_as_soon_as_a_busy_one(
    tmp_path: Path, udp: _Udp, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a quiet link the last packet sent is a ping, which restarts QUIC's idle period. Even so,
    # the peer's silence must be noticed as soon as on a busy link.
    pinged, send_ping = asyncio.Event(), QuicConnection.send_ping

    def ping(quic: QuicConnection, uid: int) -> None:
        send_ping(quic, uid)
        pinged.set()

    async with _a_session(Installation(tmp_path, LIMITS)) as session:
        await _ask(session)
        monkeypatch.setattr(QuicConnection, "send_ping", ping)
        await asyncio.wait_for(pinged.wait(), LIMITS.idle_s)
        udp.dropped = True
        began_s = time.monotonic()
        await eventually(lambda: _carrier(session) is Scheme.WSS)
        assert time.monotonic() - began_s < 3.0


async def test_a_first_link_is_there_within_3_s_where_udp_leads_nowhere(
    tmp_path: Path, udp: _Udp
) -> None:
    udp.dropped = True
    async with _a_session(Installation(tmp_path, LIMITS)) as session:
        assert await _ask(session) < 3.0
        assert _carrier(session) is Scheme.WSS


async def test_a_link_by_the_best_carrier_is_left_alone(tmp_path: Path) -> None:
    async with _a_session(Installation(tmp_path, LIMITS)) as session:
        await _ask(session)
        first = session.peer
        # This is longer than a third of the idle period, so the quiet link sends a ping.
        await asyncio.sleep(2.5)
        assert session.peer is first
        await eventually(lambda: not (first and first.silence > 0.43))


def test_the_best_carrier_is_asked_less_and_less_often_while_it_does_not_answer() -> None:
    tried, asked = Ways(lambda: 1.0), list[float]()
    tried.opened(0.0)
    for now_s in map(float, range(300)):
        if tried.wanted("quic+wss://h:1", Scheme.WSS, silent=False, now_s=now_s):
            asked.append(now_s)
            tried.failed(now_s)
    assert asked == [5.0, 10.0, 20.0, 40.0, 80.0, 140.0, 200.0, 260.0]


def test_an_address_of_one_carrier_leads_nowhere_else() -> None:
    tried = Ways(lambda: 1.0)
    assert tried.wanted("wss://h:1", Scheme.WSS, silent=True, now_s=0.0) == []
    assert tried.wanted("h:1", Scheme.QUIC, silent=True, now_s=0.0) == []
