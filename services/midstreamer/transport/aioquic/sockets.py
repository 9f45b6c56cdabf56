"""UDP sockets that read all waiting datagrams before any of them is answered.

asyncio's own transport reads one datagram per turn of the event loop, and one turn costs as much as
the datagram itself.  A `DatagramSocket` reads up to `BATCH` datagrams in one turn.  Then its owner
sends once for each connection that received any.
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
"""Maximum datagrams that are read from one socket in one turn of the event loop."""
DATAGRAM_BYTES_MAX = 65_536
DATAGRAM_BYTES = 1200
"""Largest datagram to send. Every network path carries this size (RFC 9000, section 14), and larger
sizes are not probed for."""
LOOPBACK_DATAGRAM_BYTES = 8192
"""Largest datagram to send to the same machine. The cost is per datagram, so larger is cheaper."""
SOCKET_BYTES = 4 * 1024 * 1024
"""Buffer size that is requested for sending and for receiving. The kernel may grant less."""


class DatagramSocket:
    """A non-blocking UDP socket on the event loop.

    ``received`` is called for each datagram, ``drained`` after a batch, and ``failed`` on errors.
    """

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
        """The address to which the socket is bound, with the real port if 0 was requested."""
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
            pass  # the datagram is lost, and QUIC will retransmit its content
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Stop reading and close the socket. It is safe to call this twice."""
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
                    return  # the owner closed the socket because of this datagram
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)
        self._drained()

    def _fail(self, error: OSError) -> None:
        # `_failed` is set only for a connected socket, which a client uses. It gets an error if the
        # port of its peer is closed. On a server's socket an error concerns only one datagram sent
        # earlier, and other connections are not affected, so the error is ignored.
        if self._failed is not None:
            self._failed(error)


async def bound(address: str) -> socket.socket:
    """Return a UDP socket bound to ``host:port``. Raise ConfigError if it cannot bind."""
    return _enlarged(await hosts.bound(address, socket.SOCK_DGRAM))


def connected(address: str, found: Found) -> tuple[socket.socket, SocketAddress]:
    """Return (UDP socket connected to the resolved address ``found``, that address).

    Raise Unavailable if the address cannot be reached.
    """
    family, place = found
    sock = _make(family)
    try:
        sock.connect(place)
    except OSError as error:
        sock.close()
        raise Unavailable(f"cannot reach {address}: {error.strerror}", retry_after_s=1.0) from error
    return sock, place


def datagram_bytes(place: SocketAddress) -> int:
    """Return the largest datagram, in bytes, to send to an address."""
    host = hosts.plain(place[0].partition("%")[0])
    return LOOPBACK_DATAGRAM_BYTES if ipaddress.ip_address(host).is_loopback else DATAGRAM_BYTES


def _make(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return _enlarged(sock)


def _enlarged(sock: socket.socket) -> socket.socket:
    for direction in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, direction, SOCKET_BYTES)
    return sock
