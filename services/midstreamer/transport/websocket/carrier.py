"""The carrier for links over WebSocket and TLS: it dials servers and listens."""

from __future__ import annotations

import asyncio
import functools
import random
import socket

from midstreamer.domain.errors import Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.transport import hosts, racing
from midstreamer.transport.carrier import Link, OnLink, Server
from midstreamer.transport.certified_carrier import CertifiedCarrier, Watch
from midstreamer.transport.open_links import OpenLinks
from midstreamer.transport.websocket.client_connection import DialledLink
from midstreamer.transport.websocket.proxy import Way, way_to
from midstreamer.transport.websocket.selftest import self_test
from midstreamer.transport.websocket.server import WssServer


class WssCarrier(CertifiedCarrier):
    """Opens links over WebSocket and TLS 1.3. The constructor raises if the self-test fails."""

    def __init__(self, watch: Watch, *, proxy: str = "") -> None:
        """``proxy``: ``http://host:port``; ``environment`` for the proxy that HTTPS_PROXY and
        similar variables name; or empty for none."""
        self_test()
        super().__init__(watch)
        self._proxy = proxy

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link to a server of kind ``expect``. Raise Refused if either side refuses.

        A host name is resolved each time, and all its addresses are tried in random order.  With a
        proxy, only the proxy's name is resolved here, and the proxy resolves the server's name.
        """
        # Certificate files are not watched while no server or link is open.  They may have changed
        # during such a time, so check them before this dial.
        self.look()
        way = way_to(address, self._proxy)
        places = await hosts.resolve(way.first, socket.SOCK_STREAM)
        random.shuffle(places)
        attempts = [functools.partial(self._dial, address, way, place, expect) for place in places]
        return await racing.first(attempts, discard=Link.close)

    async def _dial(self, address: str, way: Way, found: hosts.Found, expect: Kind) -> Link:
        handshake_s = self._trust.limits.handshake_s
        dialled: DialledLink | None = None
        sock = socket.socket(found[0], socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(handshake_s):
                await asyncio.get_running_loop().sock_connect(sock, found[1])
                await way.pass_through(sock)
                dialled = DialledLink(
                    self._trust, address, frozenset({expect}), released=self._watch.release
                )
                self._watch.over(dialled)
                return await dialled.open(sock)
        except TimeoutError as error:
            raise Unavailable(
                f"{address} does not answer within {handshake_s:g} s", retry_after_s=1.0
            ) from error
        except OSError as error:
            raise Unavailable(
                f"cannot reach {address}: {error.strerror or error}", retry_after_s=1.0
            ) from error
        finally:
            if dialled is None:
                sock.close()
            elif not dialled.is_open:
                dialled.wire.abandon("", "the dial failed or was cancelled")

    async def serve(self, address: str, on_link: OnLink) -> Server:
        """Listen at an address; run ``on_link`` as a new task for every admitted link."""
        return await self.listen(address, OpenLinks(on_link))

    async def listen(self, address: str, open_links: OpenLinks) -> Server:
        """Listen at ``host:port`` and add the accepted links to ``open_links``."""
        server = WssServer(self._trust, open_links, released=self._watch.release)
        await server.open(address)
        self._watch.over(server)
        return server
