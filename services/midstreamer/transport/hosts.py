"""Socket addresses: resolve ``host:port``, bind sockets, and write a socket address as text."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from midstreamer.domain.errors import ConfigError, Unavailable, quoted
from midstreamer.transport import address as addresses

MAPPED = "::ffff:"
"""Prefix that an IPv6 socket puts in front of the IPv4 address of a peer."""
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Errors of `bind` on a machine that lacks IPv6 or this IPv6 address."""

SocketAddress = tuple[Any, ...]
Found = tuple[int, SocketAddress]
"""A resolved address: its address family (`socket.AF_INET`, …) and socket address."""


async def resolve(address: str, kind: socket.SocketKind) -> list[Found]:
    """Resolve ``host:port`` to all its socket addresses. IPv6 needs brackets around the host.

    Raise Unavailable if the host has no address, ConfigError if it is no valid host name.
    """
    host, _, port = addresses.parse(address).place.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), int(port), type=kind)
    except OSError as error:
        raise Unavailable(f"{host!r} has no address: {error.strerror}") from error
    except ValueError as error:  # a label of the name is too long or empty, or has a NUL character
        raise ConfigError(f"{quoted(host)} cannot be looked up: {error}") from error
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


async def bound(address: str, kind: socket.SocketKind) -> socket.socket:
    """Return a non-blocking socket bound to ``host:port``. Raise ConfigError if it cannot bind."""
    family, place = (await resolve(address, kind))[0]
    try:
        sock = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(_not_listening(address, family, place, error)) from error
    sock.setblocking(False)
    if family == socket.AF_INET6:  # `[::]` accepts IPv4 too, whatever the machine's default is
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == socket.SOCK_STREAM:  # connections left by a killed process must not block the port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(place)
    except OSError as error:
        sock.close()
        raise ConfigError(_not_listening(address, family, place, error)) from error
    return sock


def _not_listening(address: str, family: int, place: SocketAddress, error: OSError) -> str:
    message = f"cannot listen on {address}: {error.strerror}"
    if family == socket.AF_INET6 and error.errno in NO_IPV6:
        instead = "0.0.0.0" if place[0] == "::" else "127.0.0.1" if place[0] == "::1" else "<IPv4>"
        return f"{message}; this machine lacks this IPv6 address: listen on {instead}:{place[1]}"
    return message


def written(place: SocketAddress) -> str:
    """Return ``host:port`` of a socket address. A mapped IPv4 address is written as IPv4."""
    host, port = plain(place[0]), place[1]
    if ":" not in host:
        return f"{host}:{port}"
    scope = f"%{place[3]}" if len(place) > 3 and place[3] and "%" not in host else ""
    return f"[{host}{scope}]:{port}"


def plain(host: str) -> str:
    """Return an IP address. From a mapped one like ``::ffff:10.0.0.1``, remove the prefix."""
    return host[len(MAPPED) :] if host.startswith(MAPPED) and "." in host else host
