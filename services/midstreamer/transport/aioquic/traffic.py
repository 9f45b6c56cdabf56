"""Counters of the QUIC traffic of this process, which metrics read when they are scraped.

They are plain integers: one datagram costs about 100 us, and a metric's own counter would add 2 us.
Congestion windows and bytes in flight are summed over the connections open at the scrape.  The
kernel counts the dropped datagrams of each socket.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable

from aioquic.quic.connection import QuicConnection
from prometheus_client import Counter

from midstreamer.telemetry import metric_builders, metrics
from midstreamer.transport.aioquic import aioquic_internals

SAMPLE_S = 5.0
"""Seconds between two samples of a connection's round-trip time, while it sends."""
SO_MEMINFO = 55
"""Number of the Linux socket option for a socket's memory counters (asm-generic/socket.h); Python
has no constant for it."""
_NUMBERS = struct.Struct("@9I")
_DROPS = 8
"""Index of the count of dropped datagrams among the counters that `SO_MEMINFO` returns
(SK_MEMINFO_DROPS in linux/sock_diag.h)."""


class Traffic:
    """Counters of datagrams, bytes and packets, and the sockets and connections now open."""

    def __init__(self) -> None:
        self.datagrams_received = 0
        self.bytes_received = 0
        self.datagrams_sent = 0
        self.bytes_sent = 0
        self.packets_sent = 0
        self.packets_lost = self.packets_probed = 0
        self._sockets: set[socket.socket] = set()
        self._connections: set[QuicConnection] = set()
        self._dropped = 0
        """Datagrams dropped at sockets that are closed now."""

    # --- sockets ---

    def opened(self, sock: socket.socket) -> None:
        """Add an open socket, to count its dropped datagrams."""
        self._sockets.add(sock)

    def closing(self, sock: socket.socket) -> None:
        """Remove a socket that is about to be closed, and keep its count of dropped datagrams."""
        if sock in self._sockets:
            self._sockets.discard(sock)
            self._dropped += dropped(sock) or 0

    @property
    def datagrams_dropped(self) -> int | None:
        """Datagrams dropped because a receive buffer was full. None: the kernel has no counter."""
        now = [dropped(sock) for sock in tuple(self._sockets)]
        known = [drops for drops in now if drops is not None]
        if len(known) < len(now) or not _TOLD:
            return None
        return self._dropped + sum(known)

    # --- connections ---

    def began(self, connection: QuicConnection) -> None:
        """Add a connection whose handshake is complete."""
        self._connections.add(connection)

    def ended(self, connection: QuicConnection) -> None:
        """Remove a connection that has ended. It is safe to call this twice."""
        self._connections.discard(connection)

    @property
    def window_bytes(self) -> int:
        """Sum of the congestion windows of the open connections, in bytes."""
        return sum(map(aioquic_internals.congestion_window, tuple(self._connections)))

    @property
    def in_flight_bytes(self) -> int:
        """Bytes that the open connections have sent and that are not acknowledged yet."""
        return sum(map(aioquic_internals.bytes_in_flight, tuple(self._connections)))


def dropped(sock: socket.socket) -> int | None:
    """Return how many datagrams the kernel dropped at a socket. None: it has no such counter."""
    if not _TOLD:
        return None
    try:
        counters = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _NUMBERS.size)
    except OSError:
        return None
    return int(_NUMBERS.unpack(counters)[_DROPS]) if len(counters) == _NUMBERS.size else None


_TOLD = sys.platform == "linux"

TRAFFIC = Traffic()
"""The counters of this process, which its metrics show."""


def _show(traffic: Traffic) -> None:
    asks: dict[tuple[metrics.Family[Counter], str], Callable[[], float]] = {
        (metrics.UDP_DATAGRAMS, "received"): lambda: traffic.datagrams_received,
        (metrics.UDP_DATAGRAMS, "sent"): lambda: traffic.datagrams_sent,
        (metrics.UDP_BYTES, "received"): lambda: traffic.bytes_received,
        (metrics.UDP_BYTES, "sent"): lambda: traffic.bytes_sent,
        (metrics.QUIC_PACKETS, "sent"): lambda: traffic.packets_sent,
        (metrics.QUIC_PACKETS, "lost"): lambda: traffic.packets_lost,
        (metrics.QUIC_PACKETS, "probed"): lambda: traffic.packets_probed,
    }
    for (family, word), value in asks.items():
        metric_builders.asked(family.labels(word), value)
    metric_builders.asked(metrics.UDP_DROPPED, lambda: traffic.datagrams_dropped)
    metrics.QUIC_WINDOW_BYTES.set_function(lambda: float(traffic.window_bytes))
    metrics.QUIC_IN_FLIGHT_BYTES.set_function(lambda: float(traffic.in_flight_bytes))


_show(TRAFFIC)
