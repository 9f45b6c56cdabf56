"""Certificates of load test users in a cluster: requested from the operator and renewed.

The operator issues a certificate for ``client/<name>`` to a service account that has the right
`use` on the client identity of this name.  Each user has an identity of its own.  The service
account of the load test has this right only for the names that the load test needs.  Keys and
certificates are written to a folder, because several processes of the generator need them.  The
folder should be in memory (tmpfs), because it contains keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from midstreamer.cli import peer_credentials as named
from midstreamer.cluster import service_account
from midstreamer.cluster.api import Client
from midstreamer.cluster.certificate_requests import ClusterIssuer
from midstreamer.domain.errors import DeadlineExceeded
from midstreamer.domain.identity import Identity
from midstreamer.security import files
from midstreamer.security.credentials import Credentials
from midstreamer.security.requested_credentials import Issuer, RequestedSource

AT_ONCE = 8
"""Maximum number of signing requests that wait for an answer at the same time."""
WITHIN_S = 600.0
"""Seconds within which all users must have a certificate; otherwise the load test fails."""
LOOK_S = 5.0
"""Seconds between two checks for renewed certificates."""


class Keeper:
    """Obtains and renews certificates for identities, and writes them into a folder."""

    def __init__(self, issuer: Issuer, directory: Path, who: Sequence[Identity]) -> None:
        """Store the arguments; no signing request is sent before `obtain` is called."""
        self.waiting = ""
        """The issuer's last message that says why a request is not answered yet; at first empty."""
        self._directory = directory
        self._sources = [RequestedSource(each, issuer, waits=self._waits) for each in who]
        self._written: dict[Identity, Credentials] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def obtain(self, within_s: float = WITHIN_S) -> None:
        """Wait until all identities have a certificate; DeadlineExceeded after ``within_s``."""
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
        """Renew all certificates before they expire, until cancelled."""
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
    """Obtain a certificate for each identity in ``who``, and renew it while the block runs.

    The operator of this namespace and release issues the certificates, and the folder ``directory``
    holds them.  Raise DeadlineExceeded if they do not arrive in time, and ConfigError if this
    process does not run in a pod.
    """
    me = service_account.in_pod()
    _list(directory, f"coordinator/{namespace}/{release}-coordinator-*")
    async with Client(me) as api:
        issuer = ClusterIssuer(api, namespace=namespace, release=release)
        keeper = Keeper(issuer, directory, who)
        begun_s = asyncio.get_running_loop().time()
        await keeper.obtain()
        took_s = asyncio.get_running_loop().time() - begun_s
        news(f"{len(who)} identities have a certificate after {took_s:.1f} s")
        renewing = asyncio.create_task(keeper.run(), name="load.renewing")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})


def _list(directory: Path, entry: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    files.write_allowlist(directory / named.ALLOWLIST, [entry])
