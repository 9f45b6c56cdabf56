"""The listening addresses of one coordinator: inside the network of the fleet, and outside it.

Agents, coordinators and most clients share a network, and dial the addresses that leases contain.
A client outside that network connects to a second listening address.  Such a client only receives
addresses of coordinators that it can reach from outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack

from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain.identity import Kind
from midstreamer.runtime.link_requests import Peer
from midstreamer.runtime.peer_server import Listener
from midstreamer.telemetry import logs

log = logs.get(__name__)


async def opened(
    config: CoordinatorSettings, listens: Callable[[str], Awaitable[Listener]], ends: AsyncExitStack
) -> Entrances:
    """Listen on the addresses in the settings, and return the listeners.  They are closed when the
    exit stack ``ends`` is closed."""
    listening: list[Listener] = []
    for place in (config.listen, config.outside_listen):
        if place is not None:
            listening.append(await listens(place))
            ends.push_async_callback(listening[-1].close)
            log.info("coordinator.listening", address=listening[-1].address)
    return Entrances(*listening)


class Entrances:
    """The listeners of one coordinator: one inside the network of the fleet, and optionally one
    outside it."""

    def __init__(self, inside: Listener, outside: Listener | None = None) -> None:
        self._inside = inside
        self._outside = outside

    @property
    def address(self) -> str:
        """``host:port`` of the listener inside the network of the fleet."""
        return self._inside.address

    @property
    def outside_address(self) -> str:
        """``host:port`` of the listener outside the network of the fleet; "" when there is none."""
        return self._outside.address if self._outside else ""

    @property
    def peers(self) -> tuple[Peer, ...]:
        """All peers that are connected now, inside and outside."""
        return tuple(peer for each in self._all() for peer in each.peers)

    def is_outside(self, peer: Peer) -> bool:
        """Return whether a peer has connected to the outside listener."""
        return self._outside is not None and peer in self._outside.peers

    def refuse_new(self) -> None:
        """Accept no new links; open links stay open."""
        for each in self._all():
            each.refuse_new()

    async def sent_away(self, kinds: Collection[Kind]) -> None:
        """Send Drain to all peers of these kinds, and wait until their links have ended."""
        await asyncio.gather(*(each.sent_away(kinds) for each in self._all()))

    def _all(self) -> list[Listener]:
        return [self._inside] + ([self._outside] if self._outside else [])
