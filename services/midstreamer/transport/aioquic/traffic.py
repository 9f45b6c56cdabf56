"""What the QUIC of this process did: plain additions, which metrics ask for when they are scraped.

A datagram costs some 100 microseconds, and counting it with a metric's own counter would add two
more; an integer does not.  Windows and bytes under way are those of the connections that are open
at that moment, drops those that the kernel counts for each socket.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable

from aioquic.quic.connection import QuicConnection
from prometheus_client import Counter

from midstreamer.telemetry import families, metrics
from midstreamer.transport.aioquic import internals

SAMPLE_S = 5.0
"""How often the round-trip time of a connection is looked at, while it speaks."""
SO_MEMINFO = 55
"""Of Linux (asm-generic/socket.h): numbers of the memory of a socket; Python has no name for it."""
_NUMBERS = struct.Struct("@9I")
_DROPS = 8
"""Which of them counts dropped datagrams (SK_MEMINFO_DROPS in linux/sock_diag.h)."""


class Traffic:
    """What was counted since this was made."""

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
        """By sockets that are closed."""

    # --- sockets ---

    def opened(self, sock: socket.socket) -> None:
        """Ask this socket too how much was dropped."""
        self._sockets.add(sock)

    def closing(self, sock: socket.socket) -> None:
        """A socket is about to be closed: remember what it says."""
        if sock in self._sockets:
            self._sockets.discard(sock)
            self._dropped += dropped(sock) or 0

    @property
    def datagrams_dropped(self) -> int | None:
        """Dropped because a receive buffer was full; None where the kernel does not tell."""
        now = [dropped(sock) for sock in tuple(self._sockets)]
        told = [drops for drops in now if drops is not None]
        if len(told) < len(now) or not _TOLD:
            return None
        return self._dropped + sum(told)

    # --- connections ---

    def began(self, connection: QuicConnection) -> None:
        """A connection is open from now on."""
        self._connections.add(connection)

    def ended(self, connection: QuicConnection) -> None:
        """And no longer; safe to call twice."""
        self._connections.discard(connection)

    @property
    def window_bytes(self) -> int:
        """Bytes that the open connections may have under way together."""
        return sum(map(internals.congestion_window, tuple(self._connections)))

    @property
    def in_flight_bytes(self) -> int:
        """Bytes that they have under way."""
        return sum(map(internals.bytes_in_flight, tuple(self._connections)))


def dropped(sock: socket.socket) -> int | None:
    """Datagrams that the kernel dropped at a socket; None where it does not tell."""
    if not _TOLD:
        return None
    try:
        told = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _NUMBERS.size)
    except OSError:
        return None
    return int(_NUMBERS.unpack(told)[_DROPS]) if len(told) == _NUMBERS.size else None


_TOLD = sys.platform == "linux"

TRAFFIC = Traffic()
"""Of this process; its metrics show it."""


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
        families.asked(family.labels(word), value)
    families.asked(metrics.UDP_DROPPED, lambda: traffic.datagrams_dropped)
    metrics.QUIC_WINDOW_BYTES.set_function(lambda: float(traffic.window_bytes))
    metrics.QUIC_IN_FLIGHT_BYTES.set_function(lambda: float(traffic.in_flight_bytes))


_show(TRAFFIC)
