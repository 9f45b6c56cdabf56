"""What every carrier is: a way to open authenticated links that move whole frames.

QUIC (`transport.aioquic`) is the real one; `transport.memory` joins two ends in one process and
passes the same conformance suite.  A link is handed out only after its peer was judged: its
``peer`` is a certified identity, and no byte of an unjudged peer reaches the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from midstreamer.domain.grant import Grant
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import connection, deadlines, frames
from midstreamer.protocol.frames import Frame
from midstreamer.transport.address import Scheme


@dataclass(frozen=True)
class Limits:
    """Bounds of every link; each is answered by a named refusal when it is reached."""

    frame_bytes_max: int = frames.FRAME_BYTES_MAX
    links_max: int = 256
    """Connections a server keeps at once; more are refused."""
    links_per_identity_max: int = 16
    """Of those, connections of one identity; its newest beyond are refused. A process keeps one
    or two to each server, and a killed one leaves its own behind for `idle_s`: 16 allow a user
    several processes under one certificate, and it takes 16 identities to fill a server."""
    handshake_s: float = connection.HANDSHAKE_S
    """Seconds from the first packet of a connection to its first frame in order."""
    frame_s: float = deadlines.FRAME_S
    """Seconds a frame may take from its first byte, and one more for each 16 kB of it that came."""
    idle_s: float = 5.0
    """Seconds without a packet after which a link counts as lost; a keepalive goes out at a
    third of it. A killed peer is noticed within this time."""
    send_high_bytes: int = 16 * 1024 * 1024
    """Unsent bytes of one link above which `send` raises Overloaded."""
    send_low_bytes: int = 4 * 1024 * 1024
    """Unsent bytes of one link below which `drained` returns."""
    inbox_bytes_max: int = 64 * 1024 * 1024
    """Frames received and not yet taken, in bytes; a link that goes beyond is closed."""


@dataclass(frozen=True)
class TrustReport:
    """What a process shows and trusts now, for operators to compare between processes."""

    serial: str = ""
    """Of its certificate, in hex; empty where there are no certificates, like all that follows."""
    not_after_s: float = 0.0
    """When its certificate ends, in seconds since 1970."""
    bundle: str = ""
    """Short hash of the authorities that it trusts."""
    judged_by: tuple[str, ...] = ()
    """Short hash of each authority that vouches for the peer of an open link, sorted."""


class Link(Protocol):
    """One authenticated connection to one peer."""

    @property
    def peer(self) -> Identity:
        """Who is at the other end, from its certificate."""

    @property
    def incarnation(self) -> str:
        """What the peer's handshake said of its incarnation (empty for servers)."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the peer's handshake named (`protocol.capabilities`); none of an older version."""

    @property
    def scheme(self) -> Scheme:
        """The carrier that it came by."""

    @property
    def silence(self) -> float:
        """How long the peer was not heard, as a share of `Limits.idle_s`: at 1 the link is lost.
        After a third it is asked, so a live peer stays below that and the time of a round trip."""

    def send(self, frame: Frame, *, bulk: bool = False, at_once: bool = False) -> None:
        """Queue a frame. Overloaded above the high-water mark, LinkClosed once closed.

        What one turn of the loop queues leaves together when it ends; ``at_once`` is for a frame
        that nothing else would travel with.
        """

    async def receive(self) -> Frame:
        """The next frame of either stream. LinkClosed when there will be none."""

    def attend(self, take: Callable[[Frame], bool]) -> None:
        """Offer each frame that comes while none waits; what ``take`` declines is received."""

    async def drained(self) -> None:
        """Return when what was sent is below the low-water mark."""

    async def close(self, code: str = "", message: str = "") -> None:
        """Say why (a Refusal, when there is a code), then close; safe to call twice."""


class Server(Protocol):
    """A listening end."""

    @property
    def address(self) -> str:
        """``host:port`` really bound."""

    def reconsider(self) -> None:
        """Judge every open link again; close those that would now be refused."""

    def refuse_new(self) -> None:
        """Take no new link, because this process is about to stop; those that are open go on.

        Who dials is answered Overloaded: it may ask another, or again later.
        """

    async def close(self) -> None:
        """Stop accepting and close every link."""


OnLink = Callable[[Link], Awaitable[None]]


class Carrier(Protocol):
    """Opens links one way or the other; holds this process's own identity."""

    @property
    def me(self) -> Identity:
        """The identity this process presents."""

    @property
    def incarnation(self) -> str:
        """New at each start of a process; every handshake carries it."""

    @property
    def credentials(self) -> object:
        """Equal as long as a new link would show the same certificate and trust the same."""

    async def places(self, address: str) -> Sequence[str]:
        """An address for each place that this one leads to now, for `dial`; Unavailable: none.

        A name is looked up, and what is no name is given back.
        """

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link. Refused names why either side turned the other away.

        Each dial goes out from a port of its own, so that behind an address that several servers
        share another may answer.
        """

    async def serve(self, address: str, on_link: OnLink) -> Server:
        """Listen; ``on_link`` runs as a task of its own for every judged link."""

    def grant(self, peer: Identity) -> Grant:
        """What a judged peer may do, by the allowlist in force now."""

    def trust_report(self) -> TrustReport:
        """What this process shows and trusts now."""

    def warnings(self) -> list[str]:
        """What an operator should mend, one line each, though this process goes on as before."""
