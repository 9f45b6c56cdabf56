"""Certificates of the users in a cluster: asked for by signing requests, renewed, kept in files.

The operator certifies ``client/<name>`` for whoever may `use` the client identity of that name.  So
each user has an identity of its own, and the pod that runs it is allowed these names and no other.
The folder should be in memory, as keys are written there for the processes of the generator.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from midstreamer.cli import identities as named
from midstreamer.cluster import account
from midstreamer.cluster.api import Client
from midstreamer.cluster.requesting import ClusterIssuer
from midstreamer.domain.errors import DeadlineExceeded
from midstreamer.domain.identity import Identity
from midstreamer.security import files
from midstreamer.security.credentials import Credentials
from midstreamer.security.requested import Issuer, RequestedSource

AT_ONCE = 8
"""Requests that are open together."""
WITHIN_S = 600.0
LOOK_S = 5.0


class Keeper:
    """Has identities certified, and writes what it gets into a folder."""

    def __init__(self, issuer: Issuer, directory: Path, who: Sequence[Identity]) -> None:
        """Nothing is asked for yet."""
        self.waiting = ""
        """Why the last request was not answered yet, in the words of the issuer."""
        self._directory = directory
        self._sources = [RequestedSource(each, issuer, waits=self._waits) for each in who]
        self._written: dict[Identity, Credentials] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def obtain(self, within_s: float = WITHIN_S) -> None:
        """Wait until all have a certificate; DeadlineExceeded names what it waited for."""
        try:
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
                for each in self._sources:
                    group.create_task(self._first(each))
        except TimeoutError as error:
            lacking = len(self._sources) - len(self._written)
            raise DeadlineExceeded(
                f"{lacking} of {len(self._sources)} users have no certificate after"
                f" {within_s:g} s: {self.waiting or 'the operator has not answered yet'}"
            ) from error

    async def run(self) -> None:
        """Renew all in time, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in self._sources:
                group.create_task(each.run())
            while True:
                await asyncio.sleep(LOOK_S)
                for each in self._sources:
                    self._keep(each.current)

    async def _first(self, source: RequestedSource) -> None:
        async with self._slots:
            self._keep(await source.obtain())

    def _keep(self, own: Credentials) -> None:
        if self._written.get(own.identity) != own:
            files.keep(own, self._directory)
            self._written[own.identity] = own

    def _waits(self, why: str) -> None:
        self.waiting = why


@asynccontextmanager
async def certified(
    directory: Path,
    who: Sequence[Identity],
    *,
    namespace: str,
    release: str,
    news: Callable[[str], None],
) -> AsyncGenerator[None]:
    """All are certified while inside, by the fleet of this namespace and release.

    DeadlineExceeded: not in time; ConfigError: this is no pod.
    """
    me = account.in_pod()
    _list(directory, f"coordinator/{namespace}/{release}-coordinator-*")
    async with Client(me) as api:
        issuer = ClusterIssuer(api, namespace=namespace, release=release)
        keeper = Keeper(issuer, directory, who)
        begun_s = asyncio.get_running_loop().time()
        await keeper.obtain()
        took_s = asyncio.get_running_loop().time() - begun_s
        news(f"{len(who)} identities certified in {took_s:.1f} s")
        renewing = asyncio.create_task(keeper.run(), name="load.renewing")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})


def _list(directory: Path, entry: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    files.write_allowlist(directory / named.ALLOWLIST, [entry])
