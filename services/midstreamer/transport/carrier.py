"""The interface of every carrier: it opens authenticated links that move whole frames.

QUIC (`transport.aioquic`) is the usual carrier.  `transport.websocket` is for networks that drop
UDP, and `transport.memory` connects two ends in one process.  All pass the same conformance suite.
A carrier returns a link only after its peer was verified and admitted: ``peer`` is an identity from
a certificate, and no byte of an unverified peer reaches the caller.

Two shortcuts save a turn of the event loop for each request.  `Link.send` with ``flush`` sends a
frame now instead of at the end of the turn.  `Link.deliver_to` passes an arriving frame to a
function, instead of waking the task that waits in `Link.receive`.  With both shortcuts a frame
moves at an earlier moment, but the same frames move in the same order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from midstreamer.domain.grant import Grant
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import connection, frame_deadlines, frames
from midstreamer.protocol.frames import Frame
from midstreamer.transport.address import Scheme


@dataclass(frozen=True)
class Limits:
    """Limits of every link. A peer that exceeds one is refused, and the error names the limit."""

    frame_bytes_max: int = frames.FRAME_BYTES_MAX
    """Maximum bytes in the body of one frame."""
    links_max: int = 256
    """Maximum links that a server keeps at once. Further connections are refused."""
    links_per_identity_max: int = 16
    """Maximum links of one identity at a server. Its further connections are refused. The default
    is enough for several processes with one certificate: each keeps one or two links to a server,
    and the links of a killed process stay for `idle_s`. Yet one identity alone cannot fill a
    server."""
    handshake_s: float = connection.HANDSHAKE_S
    """Seconds from the first packet of a connection until its handshake must be complete."""
    frame_s: float = frame_deadlines.FRAME_S
    """Seconds from the arrival of a frame's first byte until the frame must be complete. Each 16
    KiB of the frame that have arrived add 1 s."""
    idle_s: float = 5.0
    """Seconds without a packet from the peer after which a link counts as lost. So the death of a
    peer is noticed within this time. A keepalive is sent after a third of this time, so that a link
    without traffic does not count as lost."""
    send_high_bytes: int = 16 * 1024 * 1024
    """High-water mark: with more unsent bytes on a link, `send` raises Overloaded."""
    send_low_bytes: int = 4 * 1024 * 1024
    """Low-water mark: `drained` returns when at most so many bytes of a link are unsent."""
    inbox_bytes_max: int = 64 * 1024 * 1024
    """Maximum bytes of received frames that the application has not taken. With more, the link is
    closed."""


@dataclass(frozen=True)
class TrustReport:
    """The certificate of a process and the authorities that it trusts.

    The people who run a fleet compare these reports of its processes.
    A carrier without certificates leaves every field at its default.
    """

    serial: str = ""
    """Serial number of the process's certificate, in hex."""
    not_after_s: float = 0.0
    """When the process's certificate expires, in seconds since 1970."""
    bundle: str = ""
    """Short hash of the authorities that the process trusts."""
    judged_by: tuple[str, ...] = ()
    """Short hashes of the authorities to which the certificates of connected peers chain."""


class Link(Protocol):
    """One authenticated connection to one peer."""

    @property
    def peer(self) -> Identity:
        """Identity of the peer, from its certificate."""

    @property
    def incarnation(self) -> str:
        """Incarnation from the peer's handshake. Empty if the peer is the server."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Capabilities from the peer's handshake (`protocol.capabilities`)."""

    @property
    def scheme(self) -> Scheme:
        """The carrier of the link."""

    @property
    def silence(self) -> float:
        """Time since a packet of the peer arrived, as a share of `Limits.idle_s`; at 1 the link is
        lost. A keepalive is sent at 1/3, so a live peer stays below 1/3 plus one round trip."""

    def send(self, frame: Frame, *, bulk: bool = False, flush: bool = False) -> None:
        """Queue a frame. Raise LinkClosed if the link is closed.

        Raise Overloaded if the link already has more unsent bytes than `Limits.send_high_bytes`.

        Frames queued in one turn of the event loop are sent together at its end.  With ``flush``
        the frame is sent now; use it if no other frame would share its packet.
        """

    async def receive(self) -> Frame:
        """Return the next received frame. Raise LinkClosed when no frame can follow."""

    def deliver_to(self, take: Callable[[Frame], bool]) -> None:
        """Pass each arriving frame directly to ``take``, instead of queueing it for `receive`.

        If ``take`` returns False, the frame is queued for `receive`.  To keep the order of frames,
        a frame is also queued if an earlier one is still in the queue.
        """

    async def drained(self) -> None:
        """Return when the unsent bytes are at or below the low-water mark."""

    async def close(self, code: str = "", message: str = "") -> None:
        """Close the link; with a code, send a Refusal first. It is safe to call this twice."""


class Server(Protocol):
    """A listening server of one or several carriers."""

    @property
    def address(self) -> str:
        """The address at which the server listens, with the real port if 0 was requested."""

    def reconsider(self) -> None:
        """Verify the peer of every open link again, and close links that are no longer allowed."""

    def refuse_new(self) -> None:
        """Accept no new links, because this process is about to stop. Open links stay.

        A client that dials gets Overloaded: it may dial another server, or retry later.
        """

    async def close(self) -> None:
        """Stop accepting connections and close every link."""


OnLink = Callable[[Link], Awaitable[None]]


class Carrier(Protocol):
    """Opens links as a client and accepts links as a server, under the identity of this process."""

    @property
    def me(self) -> Identity:
        """The identity of this process."""

    @property
    def incarnation(self) -> str:
        """Random text, new at each start of the process. Every handshake carries it."""

    @property
    def credentials(self) -> object:
        """A value that changes when this process's certificate or trusted authorities change."""

    async def places(self, address: str) -> Sequence[str]:
        """Resolve an address to one address per server, for `dial`.

        A host name is looked up; an address with an IP is returned as it is.  Raise Unavailable if
        the name has no address.
        """

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link to a server of kind ``expect``. Raise Refused if either side refuses.

        Each dial uses a new local port, so that a load balancer may choose another server.
        """

    async def serve(self, address: str, on_link: OnLink) -> Server:
        """Listen at an address; run ``on_link`` as a new task for every admitted link."""

    def grant(self, peer: Identity) -> Grant:
        """Return what a peer may append to, by the allowlist in force now."""

    def trust_report(self) -> TrustReport:
        """Report the certificate of this process and the authorities it trusts now."""

    def warnings(self) -> list[str]:
        """Return problems that an operator should fix, one line each. The process still works."""
