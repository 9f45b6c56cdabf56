"""Resolve the names of one session before each dial; `Names` decides, this module waits.

Only one look-up of a name runs at a time.  So a resolver that does not answer blocks one thread,
however often the session dials meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from midstreamer.domain.errors import MidstreamerError, Unavailable, quoted
from midstreamer.runtime.resolved_names import Names
from midstreamer.runtime.tasks import drop
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier

log = logs.get(__name__)

KNOWN_S = 0.25
"""Maximum seconds to wait for a look-up when some ``host:port`` to dial is known already. A result
that comes later is used for the next dial."""
NONE_KNOWN_S = 5.0
"""Maximum seconds to wait for a look-up when no ``host:port`` to dial is known."""


class Lookups:
    """Resolves the addresses of one session; call `close` when the session has ended."""

    def __init__(self, carrier: Carrier, names: Names) -> None:
        self._carrier = carrier
        self._names = names
        self._under_way: dict[str, asyncio.Task[Sequence[str]]] = {}
        self._error: MidstreamerError | OSError | None = None
        """Error of the look-up that failed last."""

    @property
    def free_s(self) -> float:
        """Earliest time at which a name that could not be resolved may be resolved again; infinite
        if there is no such name."""
        return self._names.free_s

    async def close(self) -> None:
        """Cancel the look-ups that are under way."""
        tasks, self._under_way = list(self._under_way.values()), {}
        for task in tasks:
            drop(task)
        if tasks:
            await asyncio.wait(tasks)

    async def places(self, addresses: Sequence[str]) -> list[str]:
        """Resolve the addresses and return all places (``host:port``) that are known then.

        When no place is known, raises an error that says why.
        """
        loop = asyncio.get_running_loop()
        due = self._names.due(addresses, loop.time())
        if not due and not self._names.places:
            await asyncio.sleep(self._names.free_s - loop.time())
            due = self._names.due(addresses, loop.time())
        for gone in self._under_way.keys() - set(addresses):
            drop(self._under_way.pop(gone))
        for name in due:
            if name not in self._under_way:
                self._under_way[name] = asyncio.create_task(self._look_up(name))
        await self._waited(loop.time() + NONE_KNOWN_S)
        if not self._names.places:
            raise self._none()
        return self._names.places

    async def _look_up(self, name: str) -> Sequence[str]:
        if not (found := await self._carrier.places(name)):
            raise Unavailable(f"{quoted(name)} has no address", retry_after_s=1.0)
        return found

    async def _waited(self, until_s: float) -> None:
        """Wait for the look-ups under way.

        If some ``host:port`` to dial is known, waits at most `KNOWN_S`.  Otherwise waits until one
        is known, or until the time ``until_s``.
        """
        loop = asyncio.get_running_loop()
        while self._under_way:
            known = bool(self._names.places)
            await asyncio.wait(
                self._under_way.values(),
                timeout=KNOWN_S if known else max(0.0, until_s - loop.time()),
                return_when=asyncio.ALL_COMPLETED if known else asyncio.FIRST_COMPLETED,
            )
            self._take()
            if known or loop.time() >= until_s:
                return

    def _take(self) -> None:
        """Record the results of the look-ups that have ended."""
        for name, task in list(self._under_way.items()):
            if not task.done():
                continue
            del self._under_way[name]
            try:
                self._names.found(name, task.result())
            except (MidstreamerError, OSError) as error:
                log.debug("session.not_found", name=name, detail=str(error))
                self._names.failed(name, asyncio.get_running_loop().time())
                self._error = error

    def _none(self) -> MidstreamerError | OSError:
        """Return the error that says why no ``host:port`` to dial is known."""
        for name in self._under_way:
            self._names.failed(name, asyncio.get_running_loop().time())
            self._error = Unavailable(
                f"the resolver gave no address of {quoted(name)} within {NONE_KNOWN_S:g} s",
                retry_after_s=1.0,
            )
        return self._error or Unavailable("no address was found", retry_after_s=1.0)
