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
from typing import Any

from midstreamer.domain.errors import ConfigError, Unavailable, quoted

PORT_DIGITS_MAX = 5
BATCH = 64
DATAGRAM_BYTES_MAX = 65_536
DATAGRAM_BYTES = 1200
"""What every network path carries (RFC 9000, section 14); larger ones are not probed for."""
LOOPBACK_DATAGRAM_BYTES = 8192
"""Inside one machine a datagram may be larger, and the cost is per datagram."""
SOCKET_BYTES = 4 * 1024 * 1024
"""Asked of the kernel for both directions; it gives what its limits allow."""

SocketAddress = tuple[Any, ...]
Found = tuple[int, SocketAddress]
"""Address family and socket address."""


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
        except BlockingIOError:
            pass  # lost, as datagrams are: QUIC sends it again
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Stop reading and give the port back; safe to call twice."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        try:
            for _ in range(BATCH):
                data, address = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
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
    family, place = (await resolve(address))[0]
    made = _make(family)
    try:
        made.bind(place)
    except OSError as error:
        made.close()
        raise ConfigError(f"cannot listen on {address}: {error.strerror}") from error
    return made


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


async def resolve(address: str) -> list[Found]:
    """All places of ``host:port``, as the resolver says now; brackets around IPv6."""
    host, colon, port = address.rpartition(":")
    numbered = port.isascii() and port.isdigit() and len(port) <= PORT_DIGITS_MAX
    if not (colon and numbered and int(port) < 65_536):
        raise ConfigError(f"{quoted(address)} is not <host>:<port>")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    except OSError as error:
        raise Unavailable(f"{host!r} has no address: {error.strerror}") from error
    except ValueError as error:  # a label that is too long or empty, or a NUL
        raise ConfigError(f"{quoted(host)} cannot be looked up: {error}") from error
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


def written(place: SocketAddress) -> str:
    """``host:port`` of a socket address."""
    host, port = place[0], place[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def datagram_bytes(place: SocketAddress) -> int:
    """The largest datagram to send to an address."""
    host = place[0].partition("%")[0]
    return LOOPBACK_DATAGRAM_BYTES if ipaddress.ip_address(host).is_loopback else DATAGRAM_BYTES


def _make(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    for direction in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, direction, SOCKET_BYTES)
    return made
