"""The part that all carriers with certificates share: identity and trust, and watching for changes.

Certificate, trusted authorities and allowlist may change while a process runs.  Each new connection
checks for changes before it begins.  While a server or link is open, a task checks twice a second
whether a file changed or a peer's certificate expired.  After a change of files, all open links are
verified again.  After the certificate of a client expired, all links of the listening server that
accepted this client are verified again.  After the certificate of a server that this process has
dialled expired, only the link to it is verified again.
The task ends with the last server or link, so a dropped carrier leaves no task behind.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Protocol

from midstreamer.domain.grant import Grant
from midstreamer.domain.identity import Identity
from midstreamer.security.credentials import Watched
from midstreamer.telemetry import logs
from midstreamer.transport import address as addresses
from midstreamer.transport import hosts
from midstreamer.transport.carrier import TrustReport
from midstreamer.transport.trust import Trust

WATCH_S = 0.5
"""Seconds between two checks for changed files and expired certificates."""

log = logs.get(__name__)


class Judging(Protocol):
    """A server or a dialled link: it has verified its peers, and can verify them again."""

    @property
    def earliest_expiry_s(self) -> float:
        """Earliest expiry of the certificates of all connected peers, in seconds since 1970."""

    @property
    def authorities(self) -> set[str]:
        """Short hashes of the authorities to which the certificates of connected peers chain."""

    def reconsider(self) -> None:
        """Verify every peer again, and close links that are no longer allowed."""


class Watch:
    """After each change, verifies again the peers that the change concerns.

    A change is a changed file or an expired certificate.  The peers are the clients of this
    process's servers, and the servers that this process has dialled.
    """

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self._open: set[Judging] = set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def authorities(self) -> set[str]:
        """Short hashes of the authorities to which the certificates of all peers chain."""
        return {name for opened in self._open for name in opened.authorities}

    def over(self, what: Judging) -> None:
        """Add a new server or dialled link; start the watching task if it does not run."""
        self._open.add(what)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def release(self, what: Judging) -> None:
        """Remove a closed server or link; after the last, end the watching task.

        It is safe to call this twice.
        """
        self._open.discard(what)
        if not self._open and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def look(self) -> None:
        """Check for changed files and expired certificates; verify the peers concerned again.

        Without changes this costs three calls of `stat`, about 14 us.
        """
        changed, now_s = self.trust.refresh(), time.time()
        for what in list(self._open):
            if changed or what.earliest_expiry_s < now_s:
                self._reconsider(what)

    def _reconsider(self, what: Judging) -> None:
        try:
            what.reconsider()
        except Exception:
            # The exception must not end the watching task: without this task, the peers of other
            # links would never be verified again.  It must not end a dial either, which also calls
            # `look`.
            log.exception("watch.failed")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self.look()


class CertifiedCarrier:
    """The part of a `Carrier` about this process's identity and the authorities that it trusts."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._trust = watch.trust

    @property
    def me(self) -> Identity:
        """The identity of this process."""
        return self._trust.me

    @property
    def incarnation(self) -> str:
        """Random text, new at each start of the process. Every handshake carries it."""
        return self._trust.incarnation

    @property
    def credentials(self) -> object:
        """A value that changes when this process's certificate or trusted authorities change."""
        return self._trust.current

    async def places(self, address: str) -> Sequence[str]:
        """Resolve an address to one address per server, for `dial`.

        Raise Unavailable if the host name has no address.
        """
        where = addresses.parse(address)
        if where.is_literal:
            return (str(where),)
        found = await hosts.resolve(where.place, socket.SOCK_DGRAM)
        return [addresses.written(where.schemes, hosts.written(place)) for _, place in found]

    def grant(self, peer: Identity) -> Grant:
        """Return what a peer may append to, by the allowlist in force now."""
        return self._trust.grant(peer)

    def trust_report(self) -> TrustReport:
        """Report the certificate of this process and the authorities it trusts now."""
        return self._trust.report(self._watch.authorities)

    def warnings(self) -> list[str]:
        """Return a warning for each invalid file, and for a failed certificate request.

        The last valid certificate, bundle or allowlist stays in use.
        """
        return [
            f"{_wrong(what)} stays in force: see security.unchanged in the log"
            for what in self._trust.wrong
        ]

    def look(self) -> None:
        """Check now for changed files and expired certificates.

        Without this call, they are checked twice a second while a server or link is open.
        """
        self._watch.look()


def _wrong(what: Watched) -> str:
    if what is Watched.REQUEST:
        return "no new certificate was obtained, so the present certificate"
    return f"the {what} file is not valid, so the version that was loaded before"
