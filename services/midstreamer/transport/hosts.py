"""Places of the network: how ``host:port`` is looked up, and how a socket address is written."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from midstreamer.domain.errors import ConfigError, Unavailable, quoted
from midstreamer.transport import address as addresses

MAPPED = "::ffff:"
"""Before an IPv4 address, as a socket of IPv6 sees it."""
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

SocketAddress = tuple[Any, ...]
Found = tuple[int, SocketAddress]
"""Address family and socket address."""


async def resolve(address: str, kind: socket.SocketKind) -> list[Found]:
    """All places of ``host:port``, as the resolver says now; brackets around IPv6."""
    host, _, port = addresses.parse(address).place.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), int(port), type=kind)
    except OSError as error:
        raise Unavailable(f"{host!r} has no address: {error.strerror}") from error
    except ValueError as error:  # a label that is too long or empty, or a NUL
        raise ConfigError(f"{quoted(host)} cannot be looked up: {error}") from error
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


async def bound(address: str, kind: socket.SocketKind) -> socket.socket:
    """A socket that is bound to ``host:port``; ConfigError names the address when it cannot be."""
    family, place = (await resolve(address, kind))[0]
    try:
        made = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(_not_listening(address, family, place, error)) from error
    made.setblocking(False)
    if family == socket.AF_INET6:  # `[::]` takes IPv4 too, whatever the machine's default is
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == socket.SOCK_STREAM:  # what a killed process left behind holds the port for a while
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(place)
    except OSError as error:
        made.close()
        raise ConfigError(_not_listening(address, family, place, error)) from error
    return made


def _not_listening(address: str, family: int, place: SocketAddress, error: OSError) -> str:
    said = f"cannot listen on {address}: {error.strerror}"
    if family == socket.AF_INET6 and error.errno in NO_IPV6:
        instead = "0.0.0.0" if place[0] == "::" else "127.0.0.1" if place[0] == "::1" else "<IPv4>"
        return f"{said}; this machine has no such IPv6: listen on {instead}:{place[1]}"
    return said


def written(place: SocketAddress) -> str:
    """``host:port`` of a socket address; IPv4 as such, though it came to a socket of IPv6."""
    host, port = plain(place[0]), place[1]
    if ":" not in host:
        return f"{host}:{port}"
    scope = f"%{place[3]}" if len(place) > 3 and place[3] and "%" not in host else ""
    return f"[{host}{scope}]:{port}"


def plain(host: str) -> str:
    """An IP address; the IPv4 one of ``::ffff:10.0.0.1``."""
    return host[len(MAPPED) :] if host.startswith(MAPPED) and "." in host else host
