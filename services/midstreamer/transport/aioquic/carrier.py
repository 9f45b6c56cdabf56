"""The carrier for links over QUIC: it dials servers and listens."""

from __future__ import annotations

import asyncio
import functools
import random
import socket

from midstreamer.domain.errors import Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.transport import hosts, racing
from midstreamer.transport.aioquic import sockets
from midstreamer.transport.aioquic.client_connection import DialledLink
from midstreamer.transport.aioquic.selftest import self_test
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.carrier import Link, OnLink, Server
from midstreamer.transport.certified_carrier import CertifiedCarrier, Watch
from midstreamer.transport.open_links import OpenLinks


class QuicCarrier(CertifiedCarrier):
    """Opens links over QUIC with mutual TLS. The constructor raises if the self-test fails."""

    def __init__(self, watch: Watch) -> None:
        self_test()
        super().__init__(watch)

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link to a server of kind ``expect``. Raise Refused if either side refuses.

        A host name is resolved each time, and all its addresses are tried in random order.
        """
        # Certificate files are not watched while no server or link is open.  They may have changed
        # during such a time, so check them before this dial.
        self.look()
        places = await hosts.resolve(address, socket.SOCK_DGRAM)
        random.shuffle(places)
        attempts = [functools.partial(self._dial, address, place, expect) for place in places]
        return await racing.first(attempts, discard=Link.close)

    async def _dial(self, address: str, found: hosts.Found, expect: Kind) -> Link:
        sock, place = sockets.connected(address, found)
        dialled = DialledLink(
            self._trust, sock, place, frozenset({expect}), released=self._watch.release
        )
        self._watch.over(dialled)
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
                dialled.wire.abandon("", "the dial failed or was cancelled")

    async def serve(self, address: str, on_link: OnLink) -> Server:
        """Listen at an address; run ``on_link`` as a new task for every admitted link."""
        return await self.listen(address, OpenLinks(on_link))

    async def listen(self, address: str, open_links: OpenLinks) -> Server:
        """Listen at ``host:port`` and add the accepted links to ``open_links``."""
        sock = await sockets.bound(address)
        server = QuicServer(self._trust, sock, open_links, released=self._watch.release)
        self._watch.over(server)
        return server
