"""Connections whose peer was not judged yet: how many a server bears, and who makes room.

Beginning a connection costs a stranger one datagram, and the server memory and a key exchange,
before anybody has shown a certificate.  So these are bounded four ways.  Beyond a few, a sender
must first prove that it receives at the address it sends from (`proof`).  One origin holds at
most a share, and its own oldest makes room for its next.  When all places are taken, the oldest
of the origin that holds most makes room: a newcomer is never refused, because whoever means
well is through in a moment, and whoever holds places on purpose holds the oldest.  Last, the
received bytes of all half-open connections together are bounded (`enforcement` bounds those of
one).  Beyond that bound the origin with most bytes loses its oldest connection that holds any.

Nothing here can tell two senders behind one address apart, nor a thousand hosts from a thousand
clients; both only get shorter stays.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from typing import Generic, TypeVar

from midstreamer.transport.hosts import SocketAddress

UNPROVEN_MAX = 64
"""Half-open connections up to which an address is believed. A handshake takes milliseconds, so
in peace there are fewer, and proving costs everybody one more round trip."""
HALF_OPEN_MAX = 1024
"""At some 80 kB each."""
SHARE_MAX = HALF_OPEN_MAX // 2
"""Of one origin: a whole fleet behind one address fits, and as many places stay for others."""
BYTES_MAX = 16 * 1024 * 1024
"""Received of all half-open connections: 3,000 honest handshakes of 5 kB under way at once."""

Key = TypeVar("Key", bound=Hashable)


class HalfOpen(Generic[Key]):
    """Half-open connections by where they come from, oldest first."""

    def __init__(self, most: int | None = None) -> None:
        """``most``: places in all, at most half of them of one origin; None: `HALF_OPEN_MAX`."""
        self._most = most
        self._origin: dict[Key, bytes] = {}
        self._held: dict[bytes, dict[Key, int]] = {}
        """The connections of each origin, and the bytes received of each."""
        self._bytes: dict[bytes, int] = {}
        self.held_bytes = 0
        """Received of all, and held."""

    def __len__(self) -> int:
        return len(self._origin)

    def __contains__(self, key: Key) -> bool:
        return key in self._origin

    @property
    def crowded(self) -> bool:
        """Whether a further sender has to prove its address."""
        return len(self) >= UNPROVEN_MAX

    def must_leave(self, address: SocketAddress) -> Key | None:
        """Who makes room for a newcomer from an address; None while there is room."""
        own = self._held.get(origin(address), {})
        if len(own) >= (self._most // 2 if self._most else SHARE_MAX):
            return next(iter(own))
        if len(self) >= (self._most or HALF_OPEN_MAX):
            greediest = max(self._held, key=lambda source: len(self._held[source]))
            return next(iter(self._held[greediest]))
        return None

    def add(self, key: Key, address: SocketAddress) -> None:
        """Take a newcomer in."""
        self._origin[key] = source = origin(address)
        self._held.setdefault(source, {})[key] = 0

    def hold(self, key: Key, held_bytes: int) -> None:
        """Say how many bytes were received of one; nothing when it is not half-open."""
        source = self._origin.get(key)
        if source is None:
            return
        more = held_bytes - self._held[source][key]
        self._held[source][key] = held_bytes
        self._bytes[source] = self._bytes.get(source, 0) + more
        self.held_bytes += more

    def overfull(self) -> Key | None:
        """Who leaves because all together hold too many bytes; None while they do not."""
        if self.held_bytes <= BYTES_MAX:
            return None
        fullest = self._held[max(self._bytes, key=lambda source: self._bytes[source])]
        return next(key for key, held in fullest.items() if held)

    def discard(self, key: Key) -> None:
        """It was judged, or has ended; safe to call twice."""
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
    """Whom an address counts for: one host of IPv4, one network of IPv6.

    A host of IPv6 commonly has all 2^64 addresses of its network to itself.
    """
    ip = ipaddress.ip_address(address[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.packed
    return ip.ipv4_mapped.packed if ip.ipv4_mapped else ip.packed[:8]
