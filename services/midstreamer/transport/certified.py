"""What carriers with certificates share: one trust for a process, and the watch over it.

Certificates, trusted authorities and the allowlist are read late: each new connection uses what
is in force when it begins, and looks for changes before it begins.  While anything is open, a
watch looks twice a second whether something changed or a certificate expired, and has every open
link judged again when it did.  The watch ends with the last link or server, so that a carrier
that is dropped leaves no task behind; a process that only dials still sees what is new, because
each dial looks first.
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

log = logs.get(__name__)


class Judging(Protocol):
    """A server or a dialled link: it has judged peers, and can judge them again."""

    @property
    def earliest_expiry_s(self) -> float:
        """When the first certificate of a connected peer ends."""

    @property
    def authorities(self) -> set[str]:
        """Short hashes of the authorities that vouch for the peers of open links."""

    def reconsider(self) -> None:
        """Judge every peer again; close those that would now be refused."""


class Watch:
    """Looks after everything that the carriers of one process have open."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self._open: set[Judging] = set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def authorities(self) -> set[str]:
        """Short hashes of the authorities that vouch for the peers of all open links."""
        return {name for one in self._open for name in one.authorities}

    def over(self, what: Judging) -> None:
        """Something was opened."""
        self._open.add(what)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def release(self, what: Judging) -> None:
        """It is closed; safe to call twice."""
        self._open.discard(what)
        if not self._open and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def look(self) -> None:
        """Look for what is new; judge everything open again when something is.

        When nothing changed, it costs three calls of stat, some 14 us.
        """
        changed, now_s = self.trust.refresh(), time.time()
        for what in list(self._open):
            if changed or what.earliest_expiry_s < now_s:
                self._reconsider(what)

    def _reconsider(self, what: Judging) -> None:
        try:
            what.reconsider()
        except Exception:
            # One link that cannot be judged must end neither the watch nor a dial: the others
            # would then never be judged again.
            log.exception("watch.failed")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self.look()


class CertifiedCarrier:
    """The half of a `Carrier` that is about who this process is and whom it trusts."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._trust = watch.trust

    @property
    def me(self) -> Identity:
        """The identity this process presents."""
        return self._trust.me

    @property
    def incarnation(self) -> str:
        """New at each start of a process; every handshake carries it."""
        return self._trust.incarnation

    @property
    def credentials(self) -> object:
        """Equal as long as a new link would show the same certificate and trust the same."""
        return self._trust.current

    async def places(self, address: str) -> Sequence[str]:
        """An address for each place that this one leads to now, for `dial`; Unavailable: none."""
        where = addresses.parse(address)
        if where.is_literal:
            return (str(where),)
        found = await hosts.resolve(where.place, socket.SOCK_DGRAM)
        return [addresses.written(where.schemes, hosts.written(place)) for _, place in found]

    def grant(self, peer: Identity) -> Grant:
        """What a judged peer may do, by the allowlist in force now."""
        return self._trust.grant(peer)

    def trust_report(self) -> TrustReport:
        """What this process shows and trusts now."""
        return self._trust.report(self._watch.authorities)

    def warnings(self) -> list[str]:
        """Name what is wrong; what was good before stays in force."""
        return [
            f"{_wrong(what)} before stays in force: see security.unchanged in the log"
            for what in self._trust.wrong
        ]

    def look(self) -> None:
        """Look for what is new now, instead of within half a second."""
        self._watch.look()


def _wrong(what: Watched) -> str:
    if what is Watched.REQUEST:
        return "no new certificate was obtained and what there was"
    return f"the {what} file is wrong and what was loaded"
