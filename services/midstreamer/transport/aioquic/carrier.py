"""The QUIC carrier of one process: its servers, the links it dialled, and the watch over both.

Certificates, trusted authorities and the allowlist are read late: each new connection uses what
is in force when it begins, and looks at the files before it begins.  While anything is open, a
watch looks twice a second whether a file changed or a certificate expired, and has every open
link judged again when one did.  The watch ends with the last link or server, so that a carrier
that is dropped leaves no task behind; a process that only dials still reads its files again,
because each dial looks first.
"""

from __future__ import annotations

import asyncio
import functools
import random
import secrets
import time

from midstreamer.domain.errors import Unavailable
from midstreamer.domain.grant import Grant
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security.files import AllowlistFile, CertificateManager
from midstreamer.telemetry import logs
from midstreamer.transport import racing
from midstreamer.transport.aioquic import sockets
from midstreamer.transport.aioquic.dialled import DialledLink
from midstreamer.transport.aioquic.selftest import self_test
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.aioquic.trust import Trust
from midstreamer.transport.carrier import Limits, Link, OnLink, Server, TrustReport

WATCH_S = 0.5

log = logs.get(__name__)


class QuicCarrier:
    """Opens links over QUIC with mutual TLS; refuses to exist when the self-test fails."""

    def __init__(
        self,
        manager: CertificateManager,
        *,
        allowlist: AllowlistFile | None,
        limits: Limits | None = None,
        incarnation: str = "",
    ) -> None:
        self_test()
        self._trust = Trust(
            manager, allowlist, limits or Limits(), incarnation or secrets.token_hex(8)
        )
        self._open: set[QuicServer | DialledLink] = set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def me(self) -> Identity:
        """The identity this process presents."""
        return self._trust.manager.identity

    @property
    def incarnation(self) -> str:
        """New at each start of a process; every handshake carries it."""
        return self._trust.incarnation

    @property
    def credentials(self) -> object:
        """Equal as long as a new link would show the same certificate and trust the same."""
        return self._trust.manager.current

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link. Refused names why either side turned the other away.

        The name is looked up each time, and all its addresses are tried, in random order.
        """
        self.look()  # no watch ran since the last link closed: the files may have changed
        places = await sockets.resolve(address)
        random.shuffle(places)
        attempts = [functools.partial(self._dial, address, place, expect) for place in places]
        return await racing.first(attempts, discard=Link.close)

    async def _dial(self, address: str, found: sockets.Found, expect: Kind) -> Link:
        sock, place = sockets.connected(address, found)
        dialled = DialledLink(self._trust, sock, place, frozenset({expect}), released=self._release)
        self._watch_over(dialled)
        handshake_s = self._trust.limits.handshake_s
        try:
            async with asyncio.timeout(handshake_s):
                return await dialled.open()
        except TimeoutError as error:
            raise Unavailable(
                f"{address} does not answer within {handshake_s:g} s", retry_after_s=1.0
            ) from error
        finally:
            if not dialled.is_open:
                dialled.wire.abandon("", "given up")

    async def serve(self, address: str, on_link: OnLink) -> Server:
        """Listen; ``on_link`` runs as a task of its own for every judged link."""
        sock = await sockets.bound(address)
        server = QuicServer(self._trust, sock, on_link, released=self._release)
        self._watch_over(server)
        return server

    def grant(self, peer: Identity) -> Grant:
        """What a judged peer may append to, by the allowlist in force now."""
        return self._trust.grant(peer)

    def trust_report(self) -> TrustReport:
        """What this process shows and trusts now."""
        return self._trust.report(name for one in self._open for name in one.authorities)

    def warnings(self) -> list[str]:
        """Name the files that are wrong; what was read from them before stays in force."""
        return [
            f"the {file} file is wrong and what was loaded before stays in force:"
            " see security.unchanged in the log"
            for file in self._trust.wrong
        ]

    def look(self) -> None:
        """Reread what changed; judge everything open again when something did.

        When nothing changed, it costs three calls of stat, some 14 us.
        """
        changed, now_s = self._trust.refresh(), time.time()
        for what in list(self._open):
            if changed or what.earliest_expiry_s < now_s:
                self._reconsider(what)

    def _reconsider(self, what: QuicServer | DialledLink) -> None:
        try:
            what.reconsider()
        except Exception:
            # One link that cannot be judged must end neither the watch nor a dial: the others
            # would then never be judged again.
            log.exception("watch.failed")

    def _watch_over(self, what: QuicServer | DialledLink) -> None:
        self._open.add(what)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def _release(self, what: QuicServer | DialledLink) -> None:
        self._open.discard(what)
        if not self._open and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self.look()
