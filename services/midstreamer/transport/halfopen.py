"""Limits for half-open connections: those whose peer was not verified yet.

To begin a connection costs a stranger one datagram, but it costs the server memory and a key
exchange, before any certificate was shown.  So there are four limits:

- Above `UNPROVEN_MAX` connections, a sender must first prove that it receives packets at its
  address (`transport.aioquic.address_validation`).
- One origin (an IPv4 address or an IPv6 network, see `origin`) may have at most half of the allowed
  connections.  If it has half of them and begins another connection, its own oldest connection is
  closed.
- When all origins together have the allowed number of connections, the oldest connection of the
  origin with most connections is closed.
  A new connection is never refused: an honest handshake takes milliseconds, so a connection that
  has been half-open for long is more likely an attack than a new one.
- The received bytes of all half-open connections are limited.  Above that, one connection of the
  origin with most bytes is closed: the oldest one that has received any.  (The bytes of one
  connection are limited by `transport.aioquic.mutual_tls`.)

Two kinds of attackers cannot be told from honest clients: one that has the same address as honest
clients (behind one NAT), and one that has very many addresses.  With such an attack, half-open
connections are closed sooner; it has no other effect.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from typing import Generic, TypeVar

from midstreamer.transport.hosts import SocketAddress

UNPROVEN_MAX = 64
"""Number of half-open connections up to which senders need not prove their address. The proof costs
one more round trip. A handshake takes milliseconds, so without an attack fewer connections are
half-open."""
HALF_OPEN_MAX = 1024
"""Default limit of half-open connections. Each takes about 80 kB."""
SHARE_MAX = HALF_OPEN_MAX // 2
"""Default limit of half-open connections of one origin. It is enough for a whole fleet behind one
address, and other origins can still have as many."""
BYTES_MAX = 16 * 1024 * 1024
"""Maximum received bytes of all half-open connections: enough for 3,000 handshakes of 5 kB at
once."""

Key = TypeVar("Key", bound=Hashable)


class HalfOpen(Generic[Key]):
    """The half-open connections of a server, grouped by the network `origin` that they come from.

    In each group, the oldest connection is the first.
    """

    def __init__(self, most: int | None = None) -> None:
        """``most``: maximum half-open connections; None means `HALF_OPEN_MAX`.

        The connections of one origin (see `origin`) may be at most half of this number.
        """
        self._most = most
        self._origin: dict[Key, bytes] = {}
        self._held: dict[bytes, dict[Key, int]] = {}
        """For each network `origin`, its connections and the number of bytes received on each."""
        self._bytes: dict[bytes, int] = {}
        self.held_bytes = 0
        """Received bytes of all half-open connections together."""

    def __len__(self) -> int:
        return len(self._origin)

    def __contains__(self, key: Key) -> bool:
        return key in self._origin

    @property
    def crowded(self) -> bool:
        """Whether the next sender must prove its address."""
        return len(self) >= UNPROVEN_MAX

    def must_leave(self, address: SocketAddress) -> Key | None:
        """Return the connection to close before a new one from ``address``; None: there is room."""
        own = self._held.get(origin(address), {})
        if len(own) >= (self._most // 2 if self._most else SHARE_MAX):
            return next(iter(own))
        if len(self) >= (self._most or HALF_OPEN_MAX):
            greediest = max(self._held, key=lambda source: len(self._held[source]))
            return next(iter(self._held[greediest]))
        return None

    def add(self, key: Key, address: SocketAddress) -> None:
        """Add a new connection from ``address``, with no bytes received."""
        self._origin[key] = source = origin(address)
        self._held.setdefault(source, {})[key] = 0

    def hold(self, key: Key, held_bytes: int) -> None:
        """Set the bytes received on a connection. Do nothing if it is not half-open."""
        source = self._origin.get(key)
        if source is None:
            return
        more = held_bytes - self._held[source][key]
        self._held[source][key] = held_bytes
        self._bytes[source] = self._bytes.get(source, 0) + more
        self.held_bytes += more

    def overfull(self) -> Key | None:
        """Return the connection to close because `BYTES_MAX` is exceeded; None if it is not."""
        if self.held_bytes <= BYTES_MAX:
            return None
        fullest = self._held[max(self._bytes, key=lambda source: self._bytes[source])]
        return next(key for key, held in fullest.items() if held)

    def discard(self, key: Key) -> None:
        """Remove a connection that was verified or has ended. It is safe to call this twice."""
        source = self._origin.pop(key, None)
        if source is None:
            return
        held = self._held[source]
        released = held.pop(key)
        self.held_bytes -= released
        if not held:
            del self._held[source]
            self._bytes.pop(source, None)
        elif released:
            self._bytes[source] -= released


def origin(address: SocketAddress) -> bytes:
    """Return the origin of an address: the IPv4 address, or the first 64 bits of the IPv6 address.

    One host with IPv6 commonly owns all 2^64 addresses of its network.
    """
    ip = ipaddress.ip_address(address[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.packed
    return ip.ipv4_mapped.packed if ip.ipv4_mapped else ip.packed[:8]
