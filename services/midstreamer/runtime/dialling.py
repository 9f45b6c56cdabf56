"""Open the next link of a session: resolve names, dial addresses in parallel, avoid servers.

`Names`, `Targets` and `Avoiding` decide; this module waits and dials.  Every dial uses a new
socket and so a new source port.  Therefore, when several servers share one address, a different
server may answer the next dial.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Sequence

from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.domain.identity import Kind
from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.name_lookups import Lookups
from midstreamer.runtime.next_address import Targets
from midstreamer.runtime.resolved_names import Names
from midstreamer.runtime.servers_to_avoid import Avoiding
from midstreamer.runtime.tasks import pause
from midstreamer.telemetry import logs
from midstreamer.transport import racing
from midstreamer.transport.carrier import Carrier, Link

log = logs.get(__name__)

BACKOFF = Backoff(first_s=0.05, most_s=2.0)
"""Pauses before an address is dialled or resolved again; they grow with its failures in a row."""


class _Enough(Exception):
    """Raised in place of a further parallel dial, when `Avoiding.take` has no token left for it."""


class Dialler:
    """Dials for one session; call `close` when the session has ended."""

    def __init__(self, carrier: Carrier, expect: Kind) -> None:
        self._carrier = carrier
        self._expect = expect
        self._lookups = Lookups(carrier, Names(pause=_paused, dice=random.random))
        self._targets = Targets(pause=_paused, dice=random.random)
        self._avoiding = Avoiding(random.random)

    async def close(self) -> None:
        """Cancel the name look-ups that are under way."""
        await self._lookups.close()

    # --- earlier links ---

    def ended(self, address: str, server: str, *, steady: bool) -> None:
        """Record that the link to a server was lost.

        ``steady`` says that the link was stable (`runtime.peer.STEADY_S`).  Then the earlier
        failures of the address are forgotten, and the next pause is short again.
        """
        now_s = asyncio.get_running_loop().time()
        if steady:
            self._targets.steady(address)
        self._targets.failed(address, now_s)
        self._avoiding.failed(address, server, now_s)

    def drains(self, address: str, server: str, *, leaving: bool, steady: bool) -> None:
        """Record that a server sent Drain: it takes no more requests on the link to it.

        ``leaving`` says that the server's process will stop, so that other servers are dialled
        first.  ``steady`` says that the link was stable (`runtime.peer.STEADY_S`).
        """
        now_s = asyncio.get_running_loop().time()
        if leaving:
            self._targets.sent_away(address, now_s)
            self._avoiding.sent_away(address, server, now_s)
        if not steady:
            # The link lived only briefly, and a new link may end as soon. So make the session pause
            # before it dials the address again.
            self._targets.failed(address, now_s)

    # --- the next link ---

    async def next(self, addresses: Sequence[str]) -> tuple[str, Link]:
        """Dial all places of the addresses, the best first; return (place, link) of the first link.

        A place is one ``host:port`` that an address resolves to.
        """
        loop = asyncio.get_running_loop()
        while True:
            order = self._targets.order(await self._lookups.places(addresses), loop.time())
            now_s = loop.time()
            if order[0][0] <= now_s:
                break
            await asyncio.sleep(min(order[0][0], max(self._lookups.free_s, now_s)) - now_s)
        ready = [place for free_s, place in order if free_s <= now_s]
        attempts = [functools.partial(self._at, place, len(ready) == 1) for place in ready]
        return await racing.first(attempts, discard=_discard)

    async def first(self, address: str, ways: Sequence[str]) -> tuple[str, Link]:
        """Dial one address by each of several carriers; return (address, link) of the first link.

        ``ways`` has one address for each carrier.
        """
        attempts = [functools.partial(self._by, address, way) for way in ways]
        return await racing.first(attempts, discard=_discard)

    async def _by(self, address: str, way: str) -> tuple[str, Link]:
        return address, await self._carrier.dial(way, expect=self._expect)

    async def _at(self, place: str, only: bool) -> tuple[str, Link]:
        """Dial one ``host:port``; return (place, link).

        If the server that answers is one to avoid, this method closes the link and dials again, as
        long as `Avoiding.again` permits it.
        ``only`` says that no other place is dialled in parallel, so a failed dial is retried here.
        """
        loop = asyncio.get_running_loop()
        tries = 0
        while True:
            try:
                link = await self._answered(place)
            except (MidstreamerError, OSError) as error:
                vain = isinstance(error, Refused) or not only
                again_s = None if vain else self._avoiding.again(place, tries, loop.time())
                if again_s is None:
                    self._targets.failed(place, loop.time())
                    self._avoiding.unanswered(place, loop.time())
                    raise
            else:
                server, now_s = link.peer.name, loop.time()
                avoided = self._avoiding.avoids(server, now_s)
                again_s = self._avoiding.again(place, tries, now_s) if avoided else None
                if again_s is None:
                    self._avoiding.opened(place, server, now_s, tries=tries)
                    return place, link
                log.debug("session.looks_for_another", address=place, instead_of=server)
                await link.close()
            tries += 1
            await asyncio.sleep(again_s)

    async def _answered(self, place: str) -> Link:
        """Dial one ``host:port`` and return the first link that opens.

        Several servers may share the ``host:port``, and a dial may lead to a dead server.  So if
        the ``host:port`` had a failure or a draining server recently, further dials start in
        parallel, until one of the dials is answered.
        """
        loop = asyncio.get_running_loop()

        async def dial() -> Link:
            return await self._carrier.dial(place, expect=self._expect)

        async def beside() -> Link:
            if not self._avoiding.take(loop.time()):
                raise _Enough
            return await dial()

        most, stagger_s = self._avoiding.beside(place, loop.time())
        return await racing.first(
            [dial, *[beside] * most],
            discard=Link.close,
            stagger_s=stagger_s,
            is_final=lambda error: not isinstance(error, _Enough),
        )


def _paused(failures: int) -> float:
    return pause(failures, backoff=BACKOFF)


async def _discard(dialled: tuple[str, Link]) -> None:
    await dialled[1].close()
