"""Peers that were judged, on either side of a connection: what carriers with certificates share.

A carrier says when TLS has proven a peer's key (`judge`) and when both handshakes of the carrier
are done (`established`).  From then on the peer is judged again whenever something changed.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.domain.identity import Kind
from midstreamer.protocol import authorisation
from midstreamer.protocol.connection import Side
from midstreamer.security.chain import Presented, Role
from midstreamer.telemetry import logs
from midstreamer.transport import open_links as attending
from midstreamer.transport.framed import FramedLink, Wire, opening_error
from midstreamer.transport.halfopen import HalfOpen
from midstreamer.transport.open_links import OpenLinks
from midstreamer.transport.trust import AdmittedPeer, Trust

log = logs.get(__name__)


class JudgedWire(Wire, Protocol):
    """A wire that gets its link once the peer was judged."""

    link: FramedLink | None
    over: bool
    """Nothing more will be said."""

    def __hash__(self) -> int:
        """By identity."""


WireT = TypeVar("WireT", bound=JudgedWire)


class DialledPeer(Generic[WireT]):
    """The server at the other end of a connection that this side opened."""

    wire: WireT

    def __init__(self, trust: Trust, place: str, kinds: frozenset[Kind]) -> None:
        """``place``: where it was dialled, for logs and errors."""
        self._trust = trust
        self._written = place
        self._kinds = kinds
        self._judged: AdmittedPeer | None = None
        self._ready: asyncio.Future[FramedLink] = asyncio.get_running_loop().create_future()
        self._opened = False

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

    def judge(self, presented: Presented) -> None:
        """Is this the server that was dialled? Refused says why not."""
        try:
            self._judged = self._trust.judge(presented, Role.SERVES, self._kinds)
        except Refused as refusal:
            attending.refused(self._written, refusal)
            raise

    def established(self, wire: WireT) -> FramedLink:
        """Our side has judged the server; whether it takes us, its acknowledgement tells."""
        if self._judged is None:
            raise RuntimeError("a handshake was completed by a server that was not judged")
        connection = self._trust.connection(Side.DIALLED, self._judged.identity)
        link = FramedLink(connection, wire, self._trust.limits)
        wire.link = link
        link.start()
        if not self._ready.done():
            self._ready.set_result(link)
        return link

    def _not_opened(self, code: str, message: str) -> None:
        """Whoever dialled learns why there is no link; nothing where there was one."""
        if not self._ready.done():
            why = message if code and message.startswith(code) else f"{code}: {message}"
            self._ready.set_exception(opening_error(code, f"no link to {self._written}: {why}"))
            self._ready.exception()  # whoever dialled may have left


class AcceptedPeers(Generic[WireT]):
    """The clients of a listening socket, and those that are not judged yet."""

    def __init__(self, trust: Trust, open_links: OpenLinks, *, half_open_max: int | None) -> None:
        self._trust = trust
        self._open_links = open_links
        self._kinds = authorisation.accepts(trust.me.kind)
        self._judged: dict[WireT, AdmittedPeer] = {}
        self._wire_of: dict[FramedLink, WireT] = {}
        self._turned_away: set[WireT] = set()
        """Their end is counted already, by its reason."""
        self._half_open: HalfOpen[WireT] = HalfOpen(most=half_open_max)
        self._deadlines: dict[WireT, asyncio.TimerHandle] = {}
        """Until when each half-open connection has to have a link."""

    @property
    def earliest_expiry_s(self) -> float:
        """When the first certificate of a connected peer ends."""
        return min((judged.not_after_s for judged in self._judged.values()), default=float("inf"))

    @property
    def authorities(self) -> set[str]:
        """Short hashes of the authorities that vouch for the peers of open links."""
        return {self._judged[wire].authority for wire in self._wire_of.values()}

    def reconsider(self) -> None:
        """Judge every open link again; close those that would now be refused."""
        attending.reconsider(self._wire_of, self._judge_again)

    def refuse_new(self) -> None:
        """Take no new link; those that are open go on."""
        self._open_links.full = True

    def judge(self, wire: WireT, presented: Presented, place: str) -> None:
        """Who is it, and is there room? Refused or Overloaded turn it away."""
        try:
            judged = self._trust.judge(presented, Role.DIALS, self._kinds)
            self._open_links.require_room(judged.identity, self._trust.limits)
        except MidstreamerError as refusal:
            attending.refused(place, refusal)
            self._turned_away.add(wire)
            raise
        self._judged[wire] = judged
        self._open_links.arriving[wire] = judged.identity

    def established(self, wire: WireT) -> FramedLink:
        """The client was judged on the way; from now on it may speak."""
        judged = self._judged.get(wire)
        if judged is None:
            raise RuntimeError("a handshake was completed by a client that was not judged")
        self._no_longer_half_open(wire)
        connection = self._trust.connection(Side.ACCEPTED, judged.identity)
        link = FramedLink(connection, wire, self._trust.limits)
        wire.link = link
        self._wire_of[link] = wire
        self._open_links.arriving.pop(wire, None)
        self._open_links.welcome(link, self)
        return link

    def _judge_again(self, link: FramedLink) -> None:
        wire = self._wire_of.get(link)
        if wire is None:
            return  # it has ended; its task has not yet
        presented = self._judged[wire].presented
        self._judged[wire] = self._trust.judge(presented, Role.DIALS, self._kinds)

    def _no_longer_half_open(self, wire: WireT) -> None:
        self._half_open.discard(wire)
        deadline = self._deadlines.pop(wire, None)
        if deadline is not None:
            deadline.cancel()

    def _forget_peer(self, wire: WireT) -> None:
        """Nobody is at the other end any more; safe to call twice."""
        if wire.link is not None:
            self._wire_of.pop(wire.link, None)
        self._judged.pop(wire, None)
        self._open_links.arriving.pop(wire, None)
