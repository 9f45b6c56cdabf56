"""The client side of a WebSocket connection: one dialled connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from midstreamer.domain.identity import Kind
from midstreamer.telemetry import logs
from midstreamer.transport.framed_link import FramedLink
from midstreamer.transport.peer_verification import DialledPeer
from midstreamer.transport.trust import Trust
from midstreamer.transport.websocket import tls as transport_tls
from midstreamer.transport.websocket import websocket_protocol
from midstreamer.transport.websocket.tls import Tls
from midstreamer.transport.websocket.wire import WssWire

log = logs.get(__name__)


class DialledLink(DialledPeer[WssWire]):
    """One dialled connection and the verification of its server."""

    def __init__(
        self,
        trust: Trust,
        place: str,
        kinds: frozenset[Kind],
        *,
        released: Callable[[DialledLink], None],
    ) -> None:
        super().__init__(trust, place, kinds)
        self._released = released
        self.wire = WssWire(
            Tls(transport_tls.context(trust.current, server_side=False), server_side=False),
            websocket_protocol.client(place),
            self,
            idle_s=trust.limits.idle_s,
        )

    async def open(self, sock: socket.socket) -> FramedLink:
        """Complete the handshakes of TLS, HTTP and the protocol on a connected socket."""
        await asyncio.get_running_loop().create_connection(lambda: self.wire, sock=sock)
        self.wire.begin()
        link = await self._ready
        await link.opened()
        self._opened = True
        self.wire.keep_alive()
        return link

    # --- Owner ---

    def secured(self, wire: WssWire) -> None:
        """Verify the server after the TLS handshake. Raise Refused if it is not accepted."""
        self.judge(wire.tls.presented)

    def ended(self, wire: WssWire, code: str, message: str) -> None:
        """Release the connection, and let a waiting dial fail with the reason."""
        self._released(self)
        self._not_opened(code, message)

    def forgotten(self, wire: WssWire) -> None:
        """Call `ended` again, because its first call may have raised before it was complete."""
        self.ended(wire, "", "")
