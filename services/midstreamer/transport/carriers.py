"""All carriers of one process, chosen by the scheme of an address. Only this module builds them.

The carriers of a process share one `Trust` and one `Watch`, and links of all carriers count toward
the same limits.
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
from midstreamer.transport.certified_carrier import CertifiedCarrier, Watch
from midstreamer.transport.open_links import OpenLinks
from midstreamer.transport.trust import Trust

FALL_BACK_S = 0.5
"""Seconds without an answer on one carrier after which the next carrier is tried too. A handshake
takes some milliseconds, or a few hundred around the world. If a process has taken the second
carrier although the first one works, it returns to the first one later
(`runtime.carrier_choice`)."""
HANDSHAKE_FAILED = "handshake_failed"
"""Reason of the Refused that a carrier raises when TLS or the carrier's own handshake failed."""
PORTS_MAX = 20
"""Maximum attempts to find one port number that is free for every carrier."""

log = logs.get(__name__)


class OneCarrier(Protocol):
    """The part of a carrier that differs between carriers: to dial and to listen."""

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link to ``host:port``, to a server of kind ``expect``."""

    async def listen(self, address: str, open_links: OpenLinks) -> Server:
        """Listen at ``host:port`` and add the accepted links to ``open_links``."""


class Carriers(CertifiedCarrier):
    """The carrier of a process; for each address, it uses the carriers that the address names."""

    def __init__(self, watch: Watch, *, proxy: str = "") -> None:
        super().__init__(watch)
        self._proxy = proxy
        self._made: dict[Scheme, OneCarrier] = {}

    async def places(self, address: str) -> Sequence[str]:
        """Resolve an address to one address per server, for `dial`.

        An address that is reached through a proxy is returned as it is: the proxy resolves its host
        name.  Raise Unavailable if a host name that is resolved here has no address.
        """
        where = addresses.parse(address)
        if self._proxy and Scheme.WSS in where.schemes:
            from midstreamer.transport.websocket.proxy import way_to

            if way_to(where.place, self._proxy).proxy is not None:
                return (str(where),)
        return await super().places(address)

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link to a server of kind ``expect``. Raise Refused if either side refuses.

        If the address names several carriers, the next carrier is tried when the one before has
        failed, or has not answered for `FALL_BACK_S`. The first link that opens is returned.
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
        """Listen with every carrier that the address names, all at the same port number.

        ``on_link`` runs as a new task for every admitted link.
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
                # With port 0, the first carrier may get a number that is not free for the next
                # one: then try another number.  Any other error is raised.
                if tries == PORTS_MAX or not where.place.endswith(":0") or not opened:
                    raise
        raise AssertionError  # not reached: the last attempt returns or raises

    def _of(self, scheme: Scheme) -> OneCarrier:
        if scheme not in self._made:
            self._made[scheme] = self._build(scheme)
        return self._made[scheme]

    def _build(self, scheme: Scheme) -> OneCarrier:
        # Imported here so that the library of a carrier is loaded only if the carrier is used.
        if scheme is Scheme.QUIC:
            from midstreamer.transport.aioquic import QuicCarrier

            return QuicCarrier(self._watch)
        if scheme is Scheme.WSS:
            from midstreamer.transport.websocket import WssCarrier

            return WssCarrier(self._watch, proxy=self._proxy)
        raise ConfigError(f"{scheme}:// works only in tests: use quic://, wss:// or quic+wss://")


def _is_an_answer(error: BaseException) -> bool:
    """Whether the error is a refusal by the server, which another carrier would not change."""
    if isinstance(error, Refused):
        return error.reason != HANDSHAKE_FAILED
    return isinstance(error, Overloaded)


class ServerOfSeveral:
    """Several servers, one per carrier, that share their open links and act as one server."""

    def __init__(self, schemes: tuple[Scheme, ...], servers: Sequence[Server]) -> None:
        self._address = addresses.written(schemes, servers[0].address)
        self.servers = tuple(servers)

    @property
    def address(self) -> str:
        """The address at which the server listens, with the real port if 0 was requested.

        It has no scheme if QUIC is the only carrier.
        """
        return self._address

    def reconsider(self) -> None:
        """Verify the peer of every open link again, and close links that are no longer allowed."""
        for server in self.servers:
            server.reconsider()

    def refuse_new(self) -> None:
        """Accept no new links. Open links stay."""
        for server in self.servers:
            server.refuse_new()

    async def close(self) -> None:
        """Stop accepting connections and close every link."""
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
    """Return the carriers of one process, with one shared `Trust` and `Watch`.

    ``proxy``: the HTTP proxy for outgoing ``wss://`` connections; see `WssCarrier`.
    """
    trust = Trust(source, limits or Limits(), incarnation or secrets.token_hex(8))
    return Carriers(Watch(trust), proxy=proxy)
