"""Where one coordinator is reached: inside its network, and from outside of it.

Agents, coordinators and most clients share a network, and dial the address that leases tell.  A
client from outside comes by another place, and is told only addresses that lead in from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack

from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain.identity import Kind
from midstreamer.runtime.conversation import Peer
from midstreamer.runtime.listener import Listener
from midstreamer.telemetry import logs

log = logs.get(__name__)


async def opened(
    config: CoordinatorSettings, listens: Callable[[str], Awaitable[Listener]], ends: AsyncExitStack
) -> Entrances:
    """Listen where the settings say; ``ends`` closes it all."""
    made: list[Listener] = []
    for place in (config.listen, config.outside_listen):
        if place is not None:
            made.append(await listens(place))
            ends.push_async_callback(made[-1].close)
            log.info("coordinator.listening", address=made[-1].address)
    return Entrances(*made)


class Entrances:
    """The listening ends of one coordinator, as one."""

    def __init__(self, inside: Listener, outside: Listener | None = None) -> None:
        self._inside = inside
        self._outside = outside

    @property
    def address(self) -> str:
        """``host:port`` really bound inside."""
        return self._inside.address

    @property
    def outside_address(self) -> str:
        """``host:port`` really bound for those outside; empty where there is no such place."""
        return self._outside.address if self._outside else ""

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Those that are connected now."""
        return tuple(peer for each in self._all() for peer in each.peers)

    def is_outside(self, peer: Peer) -> bool:
        """Whether a peer came in from outside."""
        return self._outside is not None and peer in self._outside.peers

    def refuse_new(self) -> None:
        """Take no new link; those that are open go on."""
        for each in self._all():
            each.refuse_new()

    async def sent_away(self, kinds: Collection[Kind]) -> None:
        """Tell peers of these kinds that this process is about to stop, and wait for them."""
        await asyncio.gather(*(each.sent_away(kinds) for each in self._all()))

    def _all(self) -> list[Listener]:
        return [self._inside] + ([self._outside] if self._outside else [])
