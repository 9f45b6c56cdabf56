"""One connection that this side opened."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Kind
from midstreamer.protocol.connection import Side
from midstreamer.security.chain import Role
from midstreamer.telemetry import logs
from midstreamer.transport import attendance
from midstreamer.transport.framed import FramedLink, opening_error
from midstreamer.transport.trust import Judged, Trust
from midstreamer.transport.websocket import tls as transport_tls
from midstreamer.transport.websocket import web
from midstreamer.transport.websocket.tls import Tls
from midstreamer.transport.websocket.wire import WssWire

log = logs.get(__name__)


class DialledLink:
    """One connection that this side opened, on a socket that leads to the server."""

    def __init__(
        self,
        trust: Trust,
        place: str,
        kinds: frozenset[Kind],
        *,
        released: Callable[[DialledLink], None],
    ) -> None:
        self._trust = trust
        self._place = place
        self._kinds = kinds
        self._released = released
        self._judged: Judged | None = None
        self._ready: asyncio.Future[FramedLink] = asyncio.get_running_loop().create_future()
        self._opened = False
        self.wire = WssWire(
            Tls(transport_tls.context(trust.current, server_side=False), server_side=False),
            web.client(place),
            self,
            idle_s=trust.limits.idle_s,
        )

    async def open(self, sock: socket.socket) -> FramedLink:
        """Go through the handshakes of TLS, HTTP and the protocol; the socket is connected."""
        await asyncio.get_running_loop().create_connection(lambda: self.wire, sock=sock)
        self.wire.begin()
        link = await self._ready
        await link.opened()
        self._opened = True
        self.wire.keep_alive()
        return link

    @property
    def is_open(self) -> bool:
        """Whether all handshakes are done and neither side has closed."""
        return self._opened and not self.wire.over

    @property
    def earliest_expiry_s(self) -> float:
        """When the peer's certificate ends."""
        return self._judged.not_after_s if self._judged else float("inf")

    @property
    def authorities(self) -> set[str]:
        """Short hash of the authority that vouches for the peer, while the link is open."""
        return {self._judged.authority} if self._judged and self.is_open else set()

    def reconsider(self) -> None:
        """Judge the peer again; close when it would now be refused."""
        if self._judged is None or self.wire.link is None:
            return
        try:
            self._judged = self._trust.judge(self._judged.presented, Role.SERVES, self._kinds)
        except Refused as refusal:
            log.warning("peer.removed", peer=self._judged.identity.name, reason=refusal.reason)
            self.wire.link.end(refusal.reason, refusal.message)

    # --- Owner ---

    def secured(self, wire: WssWire) -> None:
        """TLS is done: is this the server that was dialled?"""
        try:
            self._judged = self._trust.judge(wire.tls.presented, Role.SERVES, self._kinds)
        except Refused as refusal:
            attendance.refused(self._place, refusal)
            raise

    def established(self, wire: WssWire) -> FramedLink:
        """The server has taken us."""
        if self._judged is None:
            raise RuntimeError("a handshake was completed by a server that was not judged")
        connection = self._trust.connection(Side.DIALLED, self._judged.identity)
        link = FramedLink(connection, wire, self._trust.limits)
        wire.link = link
        link.start()
        if not self._ready.done():
            self._ready.set_result(link)
        return link

    def ended(self, wire: WssWire, code: str, message: str) -> None:
        """Whoever dialled learns why there is no link."""
        self._released(self)
        if not self._ready.done():
            why = message if message.startswith(code) else f"{code}: {message}"
            self._ready.set_exception(opening_error(code, f"no link to {self._place}: {why}"))
            self._ready.exception()  # whoever dialled may have left

    def forgotten(self, wire: WssWire) -> None:
        """The same again where ending failed half way."""
        self.ended(wire, "", "")
