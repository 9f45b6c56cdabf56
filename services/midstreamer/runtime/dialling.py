"""How a session comes to its next link: names looked up, addresses raced, servers left out.

`Names`, `Targets` and `Avoiding` decide; this waits and dials.  Every dial is on a socket of its
own, so from a source port of its own: behind a shared address another server may answer it.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Sequence

from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.domain.identity import Kind
from midstreamer.runtime.avoiding import Avoiding
from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.lookups import Lookups
from midstreamer.runtime.names import Names
from midstreamer.runtime.targets import Targets
from midstreamer.runtime.tasks import pause
from midstreamer.telemetry import logs
from midstreamer.transport import racing
from midstreamer.transport.carrier import Carrier, Link

log = logs.get(__name__)

BACKOFF = Backoff(first_s=0.05, most_s=2.0)
"""Between two attempts to dial one address."""


class _Enough(Exception):
    """No further dial beside the first may begin."""


class Dialler:
    """Dials for one session; `close` when it has ended."""

    def __init__(self, carrier: Carrier, expect: Kind) -> None:
        self._carrier = carrier
        self._expect = expect
        self._lookups = Lookups(carrier, Names(pause=_paused, dice=random.random))
        self._targets = Targets(pause=_paused, dice=random.random)
        self._avoiding = Avoiding(random.random)

    async def close(self) -> None:
        """End the look-ups that are under way."""
        await self._lookups.close()

    # --- what became of links ---

    def ended(self, address: str, server: str, *, steady: bool) -> None:
        """The link to a server ended by itself; ``steady``: it had lived for long enough."""
        now_s = asyncio.get_running_loop().time()
        if steady:
            self._targets.steady(address)
        self._targets.failed(address, now_s)
        self._avoiding.failed(address, server, now_s)

    def drains(self, address: str, server: str, *, leaving: bool, steady: bool) -> None:
        """The server takes no more requests on its link; ``leaving``: its process will stop."""
        now_s = asyncio.get_running_loop().time()
        if leaving:
            self._targets.sent_away(address, now_s)
            self._avoiding.sent_away(address, server, now_s)
        if not steady:  # it may do so to the next one too
            self._targets.failed(address, now_s)

    # --- the next link ---

    async def next(self, addresses: Sequence[str]) -> tuple[str, Link]:
        """A link to the first of all places that answers, the best first, and the place."""
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
        """A link by the first of some carriers of an address to which there is a link."""
        attempts = [functools.partial(self._by, address, way) for way in ways]
        return await racing.first(attempts, discard=_discard)

    async def _by(self, address: str, way: str) -> tuple[str, Link]:
        return address, await self._carrier.dial(way, expect=self._expect)

    async def _at(self, place: str, only: bool) -> tuple[str, Link]:
        """A link to a place, and to another server than those to avoid, where one answers.

        ``only``: no other place is tried beside it, so that a failure may be tried again here.
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
        """A link to whoever answers there; one in doubt is dialled again beside a slow dial."""
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
