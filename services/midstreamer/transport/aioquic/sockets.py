"""UDP sockets that are drained: everything that has come is read before anything is answered.

asyncio's own transport reads one datagram per turn of the loop, and each turn costs as much as
the datagram.  Here one turn reads up to BATCH of them, and then each connection that got some
is flushed once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

from midstreamer.domain.errors import Unavailable
from midstreamer.transport import hosts
from midstreamer.transport.aioquic.traffic import TRAFFIC
from midstreamer.transport.hosts import Found, SocketAddress

BATCH = 64
DATAGRAM_BYTES_MAX = 65_536
DATAGRAM_BYTES = 1200
"""What every network path carries (RFC 9000, section 14); larger ones are not probed for."""
LOOPBACK_DATAGRAM_BYTES = 8192
"""Inside one machine a datagram may be larger, and the cost is per datagram."""
SOCKET_BYTES = 4 * 1024 * 1024
"""Asked of the kernel for both directions; it gives what its limits allow."""


class DatagramSocket:
    """A non-blocking UDP socket on the event loop."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        received: Callable[[bytes, SocketAddress], None],
        drained: Callable[[], None],
        failed: Callable[[OSError], None] | None = None,
    ) -> None:
        self._socket = sock
        self._received = received
        self._drained = drained
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)
        TRAFFIC.opened(sock)

    @property
    def address(self) -> SocketAddress:
        """The address really bound."""
        return tuple(self._socket.getsockname())

    def send(self, data: bytes, to: SocketAddress | None) -> None:
        """Send one datagram; ``to`` is None on a connected socket."""
        if self._socket.fileno() < 0:
            return
        try:
            if to is None:
                self._socket.send(data)
            else:
                self._socket.sendto(data, to)
            TRAFFIC.datagrams_sent += 1
            TRAFFIC.bytes_sent += len(data)
        except BlockingIOError:
            pass  # lost, as datagrams are: QUIC sends it again
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Stop reading and give the port back; safe to call twice."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            TRAFFIC.closing(self._socket)
            self._socket.close()

    def _readable(self) -> None:
        try:
            for _ in range(BATCH):
                data, address = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
                TRAFFIC.datagrams_received += 1
                TRAFFIC.bytes_received += len(data)
                self._received(data, address)
                if self._socket.fileno() < 0:
                    return  # what was received made its owner close
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)
        self._drained()

    def _fail(self, error: OSError) -> None:
        # Only a connected socket learns that its peer's port is closed. On a server's, an error
        # belongs to some datagram sent earlier, and the others are not concerned.
        if self._failed is not None:
            self._failed(error)


async def bound(address: str) -> socket.socket:
    """A socket that listens on ``host:port``; ConfigError names the address when it cannot."""
    return _enlarged(await hosts.bound(address, socket.SOCK_DGRAM))


def connected(address: str, found: Found) -> tuple[socket.socket, SocketAddress]:
    """A socket that talks alone to one of the places found for an address, and that place."""
    family, place = found
    made = _make(family)
    try:
        made.connect(place)
    except OSError as error:
        made.close()
        raise Unavailable(f"cannot reach {address}: {error.strerror}", retry_after_s=1.0) from error
    return made, place


def datagram_bytes(place: SocketAddress) -> int:
    """The largest datagram to send to an address."""
    host = hosts.plain(place[0].partition("%")[0])
    return LOOPBACK_DATAGRAM_BYTES if ipaddress.ip_address(host).is_loopback else DATAGRAM_BYTES


def _make(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    return _enlarged(made)


def _enlarged(made: socket.socket) -> socket.socket:
    for direction in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, direction, SOCKET_BYTES)
    return made
