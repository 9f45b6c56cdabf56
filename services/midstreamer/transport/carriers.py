"""All carriers of one process, by the scheme of an address; the only place where they are built.

A process has one trust, one watch over it, and one bound on its links, whatever carries them.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from typing import Protocol

from midstreamer.domain.errors import ConfigError, MidstreamerError, Overloaded, Refused
from midstreamer.domain.identity import Kind
from midstreamer.security.credentials import CredentialSource
from midstreamer.telemetry import logs
from midstreamer.transport import address as addresses
from midstreamer.transport import racing
from midstreamer.transport.address import Scheme
from midstreamer.transport.carrier import Limits, Link, OnLink, Server
from midstreamer.transport.certified import CertifiedCarrier, Watch
from midstreamer.transport.open_links import OpenLinks
from midstreamer.transport.trust import Trust

FALL_BACK_S = 0.5
"""After so long without an answer on the first carrier the next is tried beside it. A handshake
takes milliseconds, and some hundred around the world. Who takes the second by mistake comes back
to the first (`runtime.carrier_choice`)."""
HANDSHAKE_FAILED = "handshake_failed"
"""What a carrier says when no peer was met that makes sense."""
PORTS_MAX = 20
"""Tries to find one port number that is free for every carrier."""

log = logs.get(__name__)


class OneCarrier(Protocol):
    """What each carrier can do besides `Carrier`'s part that is about trust."""

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link to ``host:port``."""

    async def listen(self, address: str, open_links: OpenLinks) -> Server:
        """Listen at ``host:port``; the links are attended together with those of others."""


class Carriers(CertifiedCarrier):
    """Dials and serves by whatever carriers an address names."""

    def __init__(self, watch: Watch, *, proxy: str = "") -> None:
        super().__init__(watch)
        self._proxy = proxy
        self._made: dict[Scheme, OneCarrier] = {}

    async def places(self, address: str) -> Sequence[str]:
        """An address for each place that this one leads to now, for `dial`; Unavailable: none.

        A name that a proxy leads to stays a name: the proxy looks it up.
        """
        where = addresses.parse(address)
        if self._proxy and Scheme.WSS in where.schemes:
            from midstreamer.transport.websocket.proxy import way_to

            if way_to(where.place, self._proxy).proxy is not None:
                return (str(where),)
        return await super().places(address)

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link. Refused names why either side turned the other away.

        Where an address names several carriers, the next is tried when the one before failed or
        has not answered for half a second, and the first link that opens is taken.
        """
        where = addresses.parse(address)
        attempts = [
            functools.partial(self._of(scheme).dial, where.place, expect=expect)
            for scheme in where.schemes
        ]
        return await racing.first(
            attempts, discard=Link.close, stagger_s=FALL_BACK_S, is_final=_is_an_answer
        )

    async def serve(self, address: str, on_link: OnLink) -> Server:
        """Listen by every carrier that the address names, at one port number.

        ``on_link`` runs as a task of its own for every judged link.
        """
        where = addresses.parse(address)
        open_links = OpenLinks(on_link)
        if len(where.schemes) == 1:
            return _named(where.schemes, await self._of(where.schemes[0]).listen(
                where.place, open_links
            ))  # fmt: skip
        for tries in range(1, PORTS_MAX + 1):
            opened: list[Server] = []
            try:
                place = where.place
                for scheme in where.schemes:
                    opened.append(await self._of(scheme).listen(place, open_links))
                    place = opened[0].address
                return _named(where.schemes, *opened)
            except MidstreamerError:
                for server in opened:
                    await server.close()
                # Port 0 took a number that is free for the first carrier alone: take another.
                if tries == PORTS_MAX or not where.place.endswith(":0") or not opened:
                    raise
        raise AssertionError  # the last try returned or raised

    def _of(self, scheme: Scheme) -> OneCarrier:
        if scheme not in self._made:
            self._made[scheme] = self._build(scheme)
        return self._made[scheme]

    def _build(self, scheme: Scheme) -> OneCarrier:
        # Each loads its library when it is first used.
        if scheme is Scheme.QUIC:
            from midstreamer.transport.aioquic import QuicCarrier

            return QuicCarrier(self._watch)
        if scheme is Scheme.WSS:
            from midstreamer.transport.websocket import WssCarrier

            return WssCarrier(self._watch, proxy=self._proxy)
        raise ConfigError(f"{scheme}:// leads nowhere outside of one process's tests")


def _is_an_answer(error: BaseException) -> bool:
    """Whether the server itself turned us away: it would do so by any carrier."""
    if isinstance(error, Refused):
        return error.reason != HANDSHAKE_FAILED
    return isinstance(error, Overloaded)


class ServerOfSeveral:
    """Several servers that share their open links, as one."""

    def __init__(self, schemes: tuple[Scheme, ...], servers: Sequence[Server]) -> None:
        self._address = addresses.written(schemes, servers[0].address)
        self.servers = tuple(servers)

    @property
    def address(self) -> str:
        """The address really bound, with the carriers in front where they are not QUIC alone."""
        return self._address

    def reconsider(self) -> None:
        """Judge every open link again; close those that would now be refused."""
        for server in self.servers:
            server.reconsider()

    def refuse_new(self) -> None:
        """Take no new link; those that are open go on."""
        for server in self.servers:
            server.refuse_new()

    async def close(self) -> None:
        """Stop accepting and close every link."""
        for server in self.servers:
            await server.close()


def _named(schemes: tuple[Scheme, ...], *servers: Server) -> Server:
    return servers[0] if schemes == (Scheme.QUIC,) else ServerOfSeveral(schemes, servers)


def build(
    source: CredentialSource,
    *,
    limits: Limits | None = None,
    incarnation: str = "",
    proxy: str = "",
) -> Carriers:
    """The carriers of one process.

    ``proxy``: what leads `wss://` out of this network; see `WssCarrier`.
    """
    trust = Trust(source, limits or Limits(), incarnation or secrets.token_hex(8))
    return Carriers(Watch(trust), proxy=proxy)
