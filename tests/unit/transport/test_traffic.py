"""The metrics of QUIC and UDP, on real sockets and on connections in memory."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from midstreamer.telemetry import metrics
from midstreamer.transport.aioquic import traffic
from midstreamer.transport.aioquic.sockets import DatagramSocket
from tests.support.metric_values import shown

SIZE = 1000


def udp() -> dict[str, float]:
    return {
        "received": shown(metrics.UDP_DATAGRAMS, direction="received"),
        "sent": shown(metrics.UDP_DATAGRAMS, direction="sent"),
        "received bytes": shown(metrics.UDP_BYTES, direction="received"),
        "sent bytes": shown(metrics.UDP_BYTES, direction="sent"),
        "dropped": shown(metrics.UDP_DROPPED),
    }


def a_socket(receive_bytes: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    opened.bind(("127.0.0.1", 0))
    return opened


async def flooded(count: int, *, receive_bytes: int) -> tuple[dict[str, float], int]:
    """Send `count` datagrams before the receiver reads any of them.

    Return by how much each metric grew, and how many datagrams the receiver read.
    """
    before, read = udp(), 0
    done = asyncio.Event()

    def received(data: bytes, _: object) -> None:
        nonlocal read
        read += 1

    near = DatagramSocket(a_socket(1 << 16), received=received, drained=lambda: None)
    far = DatagramSocket(a_socket(receive_bytes), received=received, drained=done.set)
    for _ in range(count):
        near.send(bytes(SIZE), far.address)
    await done.wait()
    near.close()
    far.close()
    return {key: value - before[key] for key, value in udp().items()}, read


async def test_each_datagram_is_counted_with_its_bytes() -> None:
    gained, read = await flooded(20, receive_bytes=1 << 20)
    assert read == 20
    assert gained == {
        "received": 20,
        "sent": 20,
        "received bytes": 20 * SIZE,
        "sent bytes": 20 * SIZE,
        "dropped": 0,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the drops of a socket")
async def test_a_full_receive_buffer_is_seen_as_drops_and_still_when_its_socket_is_closed() -> None:
    gained, read = await flooded(50, receive_bytes=4096)
    assert gained["dropped"] == 50 - read > 0
    assert gained["received"] == read


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the drops of a socket")
async def test_drops_are_seen_while_the_socket_is_open() -> None:
    sock = a_socket(4096)
    full = DatagramSocket(sock, received=lambda *_: None, drained=lambda: None)
    before = shown(metrics.UDP_DROPPED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(50):
            sender.sendto(bytes(SIZE), full.address)
    assert shown(metrics.UDP_DROPPED) > before
    full.close()


def test_where_the_kernel_does_not_tell_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_TOLD", False)
    name = metrics.name(metrics.UDP_DROPPED)
    assert metrics.REGISTRY.get_sample_value(name) is None
    assert f"\n{name} " not in metrics.render().decode()


async def test_a_socket_that_cannot_be_asked_makes_the_figure_absent_and_no_error() -> None:
    class Silent(socket.socket):
        def getsockopt(self, *_: int) -> bytes:  # type: ignore[override]
            raise OSError("not here")

    counted = traffic.Traffic()
    with Silent(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        counted.opened(silent)
        assert counted.datagrams_dropped is None
        counted.closing(silent)
    assert counted.datagrams_dropped == (0 if sys.platform == "linux" else None)
