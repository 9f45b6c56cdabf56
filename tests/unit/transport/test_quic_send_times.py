"""When a QUIC connection sends packets, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder

from midstreamer.protocol import frames
from midstreamer.protocol.connection import Connection, Side
from midstreamer.telemetry import metrics
from midstreamer.transport.aioquic import mutual_tls, traffic, wire
from midstreamer.transport.aioquic.wire import QuicWire
from midstreamer.transport.carrier import Limits
from midstreamer.transport.framed_link import FramedLink
from midstreamer.transport.hosts import SocketAddress
from tests.support import identity_builders, virtual_time
from tests.support.link_builders import CLIENT, COORDINATOR
from tests.support.metric_values import shown

TRAVEL_S = 0.0001
LIMITS = Limits()
ANYWHERE = ("192.0.2.1", 7400)


class End:
    """One end of a QUIC connection in memory: owns a `QuicWire`, and sends to the other end."""

    def __init__(self, quic: QuicConnection, connection: Callable[[], Connection]) -> None:
        self.wire = QuicWire(quic, self)
        self.linked: asyncio.Future[FramedLink] = asyncio.get_running_loop().create_future()
        self.other: End
        self.sent = 0
        self.alive = True
        self._connection = connection

    def send(self, data: bytes, address: SocketAddress) -> None:
        self.sent += 1
        asyncio.get_running_loop().call_later(TRAVEL_S, self.other.receive, data)

    def receive(self, data: bytes) -> None:
        if not self.alive:
            return
        self.wire.datagram(data, ANYWHERE)
        self.wire.settle()

    def established(self, wire: QuicWire) -> FramedLink:
        link = wire.link = FramedLink(self._connection(), wire, LIMITS)
        link.start()
        self.linked.set_result(link)
        return link

    def numbered(self, wire: QuicWire, connection_id: bytes) -> None: ...
    def unnumbered(self, wire: QuicWire, connection_id: bytes) -> None: ...
    def ended(self, wire: QuicWire, code: str, message: str) -> None: ...
    def forgotten(self, wire: QuicWire) -> None: ...


async def joined(*, far_idle_s: float = LIMITS.idle_s) -> tuple[End, End]:
    """Return the two ends of a connection: first of a client, then of a coordinator.

    Both ends have finished their handshakes. The coordinator answers each frame with Surveyed.
    """
    signer = identity_builders.an_authority(CLIENT.trust_domain)
    dialling, serving = (
        mutual_tls.configuration(
            identity_builders.credentials(signer, each), limits, is_client=each is CLIENT
        )
        for each, limits in ((CLIENT, LIMITS), (COORDINATOR, Limits(idle_s=far_idle_s)))
    )
    near = End(
        QuicConnection(configuration=dialling),
        lambda: Connection(Side.DIALLED, me=CLIENT, peer=COORDINATOR, incarnation="i1"),
    )
    far = End(
        QuicConnection(
            configuration=serving,
            original_destination_connection_id=near.wire.quic.original_destination_connection_id,
        ),
        lambda: Connection(Side.ACCEPTED, me=COORDINATOR, peer=CLIENT),
    )
    near.other, far.other = far, near
    for end in (near, far):
        mutual_tls.enforce(end.wire.quic, lambda presented: None)
    near.wire.quic.connect(ANYWHERE, now=asyncio.get_running_loop().time())
    near.wire.flush()
    await (await near.linked).opened()
    link = await far.linked
    await link.opened()

    def answer(_: frames.Frame) -> bool:
        link.send(frames.Surveyed(), flush=True)
        return True

    link.deliver_to(answer)
    await asyncio.sleep(1)  # in this time all packets of the handshakes have arrived
    near.sent = far.sent = 0
    return near, far


@pytest.fixture(autouse=True)
def _virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    monkeypatch.setattr(wire, "time", SimpleNamespace(monotonic=monotonic))


async def asked(near: End) -> None:
    link = await near.linked
    link.send(frames.Survey(), flush=True)
    await link.receive()


@pytest.mark.parametrize(
    ("pause_s", "packets"),
    [(0.0, 80), (0.003, 80), (0.008, 80), (0.011, 80), (0.019, 80), (0.03, 120)],
)
def test_acknowledgements_are_sent_with_data_that_is_sent_before_they_are_due(
    pause_s: float, packets: int
) -> None:
    async def main() -> None:
        near, far = await joined()
        for _ in range(40):
            await asked(near)
            await asyncio.sleep(pause_s)
        assert near.sent + far.sent == packets

    virtual_time.run(main())


def test_no_second_packet_is_begun_when_one_holds_all_data(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    start = QuicPacketBuilder.start_packet

    def counting(builder: QuicPacketBuilder, *packet: Any) -> None:
        begun.append(builder.packet_number)
        start(builder, *packet)

    async def main() -> None:
        near, _ = await joined()
        monkeypatch.setattr(QuicPacketBuilder, "start_packet", counting)
        await asked(near)
        assert len(begun) == 2  # one packet carried the request and one the response

    virtual_time.run(main())


@pytest.mark.parametrize(("pause_s", "pings"), [(LIMITS.idle_s / 4, 0), (0.6 * LIMITS.idle_s, 60)])
def test_pings_are_sent_only_on_an_idle_connection(pause_s: float, pings: int) -> None:
    async def main() -> None:
        near, far = await joined()
        await asked(near)
        near.wire.keep_alive()
        for _ in range(60):
            await asyncio.sleep(pause_s)
            await asked(near)
        assert near.wire._pings == pings
        assert not far.wire.over
        near.wire.stop()

    virtual_time.run(main())


def test_the_shorter_idle_timeout_of_the_two_ends_applies() -> None:
    async def main() -> None:
        near, far = await joined(far_idle_s=0.3 * LIMITS.idle_s)
        near.wire.keep_alive()
        await asyncio.sleep(10 * LIMITS.idle_s)
        assert not near.wire.over
        assert not far.wire.over
        near.wire.stop()

    virtual_time.run(main())


def test_forged_packets_do_not_count_as_packets_of_the_peer() -> None:
    async def main() -> None:
        near, far = await joined()
        near.wire.keep_alive()
        forged = b"\x40" + near.wire.quic.host_cid + bytes(40)
        for _ in range(300):
            await asyncio.sleep(LIMITS.idle_s / 100)
            near.receive(forged)
        assert not near.wire.over
        assert not far.wire.over
        near.wire.stop()

    virtual_time.run(main())


@pytest.mark.parametrize("after_s", [20.1, 20.7, 21.3, 40.0])
def test_a_peer_that_was_killed_is_noticed_when_the_idle_time_is_over(after_s: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = await joined()
        near.wire.keep_alive()
        await asyncio.sleep(after_s)
        far.alive = False
        link, began_s = await near.linked, loop.time()
        await link.closed.wait()
        # The idle period does not begin when the peer is killed. It begins at the next ping, the
        # first without an answer (RFC 9000, section 10.1).
        assert LIMITS.idle_s < loop.time() - began_s < LIMITS.idle_s * 4 / 3
        near.wire.stop()

    virtual_time.run(main())


# tests of the metrics of a connection


def packets(fate: str) -> float:
    return shown(metrics.QUIC_PACKETS, fate=fate)


def test_each_packet_that_is_sent_is_counted_once() -> None:
    async def main() -> None:
        near, far = await joined()
        sent, lost = packets("sent"), packets("lost")
        for _ in range(40):
            await asked(near)
        assert packets("sent") - sent == near.sent + far.sent
        assert packets("lost") == lost

    virtual_time.run(main())


def test_a_packet_that_only_a_probe_repeats_is_counted_apart_from_losses() -> None:
    async def main() -> None:
        near, far = await joined()
        lost, probed = packets("lost"), packets("probed")
        far.alive = False
        asking = asyncio.ensure_future(asked(near))
        await asyncio.sleep(TRAVEL_S)
        far.alive = True
        await asking
        assert (packets("lost"), packets("probed")) == (lost, probed + 1)

    virtual_time.run(main())


def test_a_packet_that_later_ones_overtake_is_counted_as_lost() -> None:
    async def main() -> None:
        near, far = await joined()
        lost = packets("lost")
        link = await near.linked
        far.alive = False
        link.send(frames.Survey(), flush=True)
        await asyncio.sleep(TRAVEL_S)
        far.alive = True
        for _ in range(6):
            link.send(frames.Survey(), flush=True)
        await asyncio.sleep(1)
        assert packets("lost") == lost + 1

    virtual_time.run(main())


def test_windows_and_what_is_under_way_are_of_the_open_connections() -> None:
    async def main() -> None:
        window = shown(metrics.QUIC_WINDOW_BYTES)
        way = shown(metrics.QUIC_IN_FLIGHT_BYTES)
        near, far = await joined()
        each = [end.wire.quic._loss.congestion_window for end in (near, far)]
        assert shown(metrics.QUIC_WINDOW_BYTES) - window == sum(each)
        far.alive = False
        link = await near.linked
        link.send(frames.Survey(), flush=True)
        assert shown(metrics.QUIC_IN_FLIGHT_BYTES) > way
        far.alive = True
        near.wire.hang_up("", "")
        # `far` does not know yet that the connection is closed, so its window still counts.
        assert shown(metrics.QUIC_WINDOW_BYTES) - window == each[1]
        await asyncio.sleep(1)
        assert shown(metrics.QUIC_WINDOW_BYTES) == window
        assert shown(metrics.QUIC_IN_FLIGHT_BYTES) == way

    virtual_time.run(main())


def test_the_round_trip_of_a_connection_that_speaks_is_looked_at_every_few_seconds() -> None:
    async def main() -> None:
        near, _ = await joined()
        count = shown(metrics.QUIC_RTT_S, "_count")
        for _ in range(100):
            await asked(near)
            await asyncio.sleep(0.1)
        both = shown(metrics.QUIC_RTT_S, "_count") - count
        assert 2 <= both <= 2 * (10 / traffic.SAMPLE_S + 1)

    virtual_time.run(main())
