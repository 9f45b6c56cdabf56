"""Forwards one UDP port to several servers, as a NodePort or a LoadBalancer does.

At the first datagram from a source port the relay chooses a server. It sends all later datagrams
from that port to the same server, even if that server is gone. Then nothing comes back, not even an
ICMP error for the closed port.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

DATAGRAM_BYTES_MAX = 65_535
HOST = "127.0.0.1"


class Relay:
    """Forwards datagrams in both directions."""

    def __init__(self, dice: random.Random, lost: float = 0.0) -> None:
        """``lost`` is the share of the servers' datagrams that the relay drops, from 0 to 1."""
        self._dice = dice
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._front = _socket()
        self._front.bind((HOST, 0))
        self._flows: dict[Any, socket.socket] = {}
        self.servers: list[tuple[str, int]] = []
        """The servers; the relay chooses one at random for each new source port."""
        self.led: list[tuple[str, int]] = []
        """The server chosen for each source port, in order of the ports' first datagrams."""
        self._loop.add_reader(self._front, self._from_client)

    @property
    def address(self) -> str:
        return f"{HOST}:{self._front.getsockname()[1]}"

    @property
    def sources(self) -> list[Any]:
        """Return all source addresses in the order of their first datagrams."""
        return list(self._flows)

    def close(self) -> None:
        for each in (self._front, *self._flows.values()):
            self._loop.remove_reader(each)
            each.close()

    def _from_client(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, source = self._front.recvfrom(DATAGRAM_BYTES_MAX)
                flow = self._flows.get(source) or self._begin(source)
                with contextlib.suppress(OSError):
                    flow.send(data)

    def _begin(self, source: Any) -> socket.socket:
        server = self._dice.choice(self.servers)
        self.led.append(server)
        flow = self._flows[source] = _socket()
        flow.connect(server)
        self._loop.add_reader(flow, self._from_server, flow, source)
        return flow

    def _from_server(self, flow: socket.socket, source: Any) -> None:
        # An OSError says that no datagram is left to read, or that the server's port is closed.
        with contextlib.suppress(OSError):
            while True:
                data = flow.recv(DATAGRAM_BYTES_MAX)
                if self._dice.random() >= self._lost:
                    self._front.sendto(data, source)


def _socket() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    return opened


@asynccontextmanager
async def relayed(servers: Sequence[str], *, seed: int, lost: float = 0.0) -> AsyncIterator[Relay]:
    """A relay in front of servers at ``host:port``.

    ``lost`` is the share of the servers' datagrams that the relay drops.
    """
    relay = Relay(random.Random(seed), lost)
    for server in servers:
        host, _, port = server.rpartition(":")
        relay.servers.append((host, int(port)))
    try:
        yield relay
    finally:
        relay.close()
