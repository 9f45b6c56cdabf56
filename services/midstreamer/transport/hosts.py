"""Places of the network: how ``host:port`` is looked up, and how a socket address is written."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from midstreamer.domain.errors import ConfigError, Unavailable, quoted
from midstreamer.transport import address as addresses

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
    made = socket.socket(family, kind)
    made.setblocking(False)
    if kind == socket.SOCK_STREAM:  # what a killed process left behind holds the port for a while
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(place)
    except OSError as error:
        made.close()
        raise ConfigError(f"cannot listen on {address}: {error.strerror}") from error
    return made


def written(place: SocketAddress) -> str:
    """``host:port`` of a socket address."""
    host, port = place[0], place[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
