"""Verification of peers, the same for all carriers with certificates, on both sides.

A carrier calls `judge` when TLS has proven that the peer owns the key of its certificate, and
`established` when the carrier's own handshake is complete.  After that the peer is verified again
whenever the trusted authorities or the allowlist change, or its certificate expires.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.domain.identity import Kind
from midstreamer.protocol import authorisation
from midstreamer.protocol.connection import Side
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.telemetry import logs
from midstreamer.transport import open_links
from midstreamer.transport.framed_link import FramedLink, Wire, opening_error
from midstreamer.transport.halfopen import HalfOpen
from midstreamer.transport.open_links import OpenLinks
from midstreamer.transport.trust import AdmittedPeer, Trust

log = logs.get(__name__)


class JudgedWire(Wire, Protocol):
    """A wire without a link at first: a link is set when the peer was verified and admitted."""

    link: FramedLink | None
    over: bool
    """True: the connection has ended, nothing more is sent or received."""

    def __hash__(self) -> int:
        """Return a hash of the object itself, not of its fields: wires are keys of dictionaries."""


WireT = TypeVar("WireT", bound=JudgedWire)


class DialledPeer(Generic[WireT]):
    """The server at the other end of a connection that this side opened, and its verification."""

    wire: WireT

    def __init__(self, trust: Trust, place: str, kinds: frozenset[Kind]) -> None:
        """``place``: address of the server, for logs and errors. ``kinds``: expected kinds."""
        self._trust = trust
        self._written = place
        self._kinds = kinds
        self._judged: AdmittedPeer | None = None
        self._ready: asyncio.Future[FramedLink] = asyncio.get_running_loop().create_future()
        self._opened = False

    @property
    def is_open(self) -> bool:
        """Whether all handshakes are complete and neither side has closed the link."""
        return self._opened and not self.wire.over

    @property
    def earliest_expiry_s(self) -> float:
        """When the peer's certificate expires, in seconds since 1970; infinity before `judge`."""
        return self._judged.not_after_s if self._judged else float("inf")

    @property
    def authorities(self) -> set[str]:
        """A set with the short hash of the authority at the end of the peer's certificate chain.

        The set is empty while the link is not open.
        """
        return {self._judged.authority} if self._judged and self.is_open else set()

    def reconsider(self) -> None:
        """Verify the peer again, and close the link if it is no longer allowed."""
        if self._judged is None or self.wire.link is None:
            return
        try:
            self._judged = self._trust.judge(self._judged.presented, Role.SERVES, self._kinds)
        except Refused as refusal:
            log.warning("peer.removed", peer=self._judged.identity.name, reason=refusal.reason)
            self.wire.link.end(refusal.reason, refusal.message)

    def judge(self, presented: Presented) -> None:
        """Verify the server's certificate. Raise Refused if it is not the server expected."""
        try:
            self._judged = self._trust.judge(presented, Role.SERVES, self._kinds)
        except Refused as refusal:
            open_links.refused(self._written, refusal)
            raise

    def established(self, wire: WireT) -> FramedLink:
        """Start the link to a verified server. Its CoordinatorAck will show if it accepts us."""
        if self._judged is None:
            raise RuntimeError("a server whose certificate was not verified completed a handshake")
        connection = self._trust.connection(Side.DIALLED, self._judged.identity)
        link = FramedLink(connection, wire, self._trust.limits)
        wire.link = link
        link.start()
        if not self._ready.done():
            self._ready.set_result(link)
        return link

    def _not_opened(self, code: str, message: str) -> None:
        """Let the dial fail with this reason; do nothing if a link was opened."""
        if not self._ready.done():
            why = message if code and message.startswith(code) else f"{code}: {message}"
            self._ready.set_exception(opening_error(code, f"no link to {self._written}: {why}"))
            self._ready.exception()  # else asyncio would warn if the dial was cancelled


class AcceptedPeers(Generic[WireT]):
    """The clients of a listening socket: admitted peers and half-open connections."""

    def __init__(self, trust: Trust, open_links: OpenLinks, *, half_open_max: int | None) -> None:
        self._trust = trust
        self._open_links = open_links
        self._kinds = authorisation.accepts(trust.me.kind)
        self._judged: dict[WireT, AdmittedPeer] = {}
        self._wire_of: dict[FramedLink, WireT] = {}
        self._turned_away: set[WireT] = set()
        """Wires whose failed handshake the metric has counted, so that it is not counted again
        when the wire ends."""
        self._half_open: HalfOpen[WireT] = HalfOpen(most=half_open_max)
        self._deadlines: dict[WireT, asyncio.TimerHandle] = {}
        """For each half-open connection, the timer that ends it unless it has a link by then."""

    @property
    def earliest_expiry_s(self) -> float:
        """Earliest expiry of the certificates of all connected peers; infinity without peers."""
        return min((judged.not_after_s for judged in self._judged.values()), default=float("inf"))

    @property
    def authorities(self) -> set[str]:
        """Short hashes of the authorities to which the certificates of connected peers chain."""
        return {self._judged[wire].authority for wire in self._wire_of.values()}

    def reconsider(self) -> None:
        """Verify the peer of every open link again, and close links that are no longer allowed."""
        open_links.reconsider(self._wire_of, self._judge_again)

    def refuse_new(self) -> None:
        """Accept no new links. Open links stay."""
        self._open_links.full = True

    def judge(self, wire: WireT, presented: Presented, place: str) -> None:
        """Verify a client. Raise Refused if it is not allowed, Overloaded if there is no room."""
        try:
            judged = self._trust.judge(presented, Role.DIALS, self._kinds)
            self._open_links.require_room(judged.identity, self._trust.limits)
        except MidstreamerError as refusal:
            open_links.refused(place, refusal)
            self._turned_away.add(wire)
            raise
        self._judged[wire] = judged
        self._open_links.arriving[wire] = judged.identity

    def established(self, wire: WireT) -> FramedLink:
        """Start the link of a verified client, whose connection is no longer half-open."""
        judged = self._judged.get(wire)
        if judged is None:
            raise RuntimeError("a client whose certificate was not verified completed a handshake")
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
            return  # the connection has ended, so there is no peer to verify
        presented = self._judged[wire].presented
        self._judged[wire] = self._trust.judge(presented, Role.DIALS, self._kinds)

    def _no_longer_half_open(self, wire: WireT) -> None:
        self._half_open.discard(wire)
        deadline = self._deadlines.pop(wire, None)
        if deadline is not None:
            deadline.cancel()

    def _forget_peer(self, wire: WireT) -> None:
        """Drop all state of a connection that has ended. It is safe to call this twice."""
        if wire.link is not None:
            self._wire_of.pop(wire.link, None)
        self._judged.pop(wire, None)
        self._open_links.arriving.pop(wire, None)
