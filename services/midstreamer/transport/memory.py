"""Links inside one operating-system process, for tests.  They use no sockets and no certificates.

Each simulated process is given an identity instead of a certificate.  Everything else is the same
as on QUIC: `security.admission` checks the identity, the bytes pass the state machine
`protocol.connection`, and `Limits.send_high_bytes` and `Limits.send_low_bytes` limit the unsent
bytes.  A whole fleet can run on one `MemoryNetwork`.  `MemoryNetwork.cut` ends links as the death
of a peer does.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

from midstreamer.domain.errors import Overloaded, Refused, Unavailable
from midstreamer.domain.grant import EVERYTHING, Grant
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import authorisation
from midstreamer.protocol.capabilities import OURS
from midstreamer.protocol.connection import Connection, Side
from midstreamer.security import admission
from midstreamer.security.allowlist import Allowlist
from midstreamer.transport import open_links
from midstreamer.transport.address import Scheme
from midstreamer.transport.carrier import Limits, Link, OnLink, Server, TrustReport
from midstreamer.transport.framed_link import FramedLink
from midstreamer.transport.open_links import OpenLinks


class MemoryNetwork:
    """A network inside one process: the listening servers by address."""

    def __init__(self) -> None:
        self._servers: dict[str, MemoryServer] = {}
        self._next_port = 1

    def bind(self, address: str, server: MemoryServer) -> str:
        """Register a server and return its address. Port 0 is replaced by a free port."""
        host, _, port = address.rpartition(":")
        if port == "0":
            address = f"{host}:{self._next_port}"
            self._next_port += 1
        if address in self._servers:
            raise Unavailable(f"{address} is in use by another server")
        self._servers[address] = server
        return address

    def release(self, address: str) -> None:
        """Remove the server at an address; do nothing if there is none."""
        self._servers.pop(address, None)

    def at(self, address: str) -> MemoryServer:
        """Return the server at an address. Raise Unavailable if nothing listens there."""
        if address not in self._servers:
            raise Unavailable(f"nothing listens at {address}")
        return self._servers[address]

    def cut(self, address: str) -> None:
        """End every link of the server at ``address`` without a Refusal, as if its process died."""
        for link in list(self.at(address).open_links.links):
            link.lost("", "the peer is gone")


class MemoryCarrier:
    """The carrier of one process on a `MemoryNetwork`."""

    def __init__(
        self,
        network: MemoryNetwork,
        me: Identity,
        *,
        allowlist: Callable[[], Allowlist] | None = None,
        limits: Limits | None = None,
        incarnation: str = "",
        capabilities: tuple[str, ...] = OURS,
    ) -> None:
        """``capabilities``: those listed in handshakes; () imitates a process of an older version.

        ``allowlist``: returns the allowlist in force; None admits every peer of the trust domain.
        """
        self.network = network
        self.limits = limits or Limits()
        self.capabilities = capabilities
        self._me = me
        self._allowlist = allowlist
        self._incarnation = incarnation or secrets.token_hex(8)

    @property
    def me(self) -> Identity:
        """The identity of this process."""
        return self._me

    @property
    def incarnation(self) -> str:
        """Random text, new at each start of the process. Every handshake carries it."""
        return self._incarnation

    @property
    def credentials(self) -> object:
        """A constant. Callers compare it to see a changed certificate; this carrier has none."""
        return ""

    async def places(self, address: str) -> Sequence[str]:
        """Return only the address itself, because nothing needs to be looked up."""
        return (address,)

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link to a server of kind ``expect``. Raise Refused if either side refuses."""
        server = self.network.at(address)
        admission.admit(server.carrier.me, self.policy(frozenset({expect})))
        link = server.connect(self)
        try:
            await link.opened()
        except BaseException:
            await link.close()
            raise
        return link

    async def serve(self, address: str, on_link: OnLink) -> Server:
        """Listen at an address; run ``on_link`` as a new task for every admitted link."""
        return MemoryServer(self, address, on_link)

    def grant(self, peer: Identity) -> Grant:
        """Return what a peer may append to, by the allowlist in force now."""
        return self._allowlist().grant(peer) if self._allowlist else EVERYTHING

    def trust_report(self) -> TrustReport:
        """Return an empty report, because this carrier has no certificates."""
        return TrustReport()

    def warnings(self) -> list[str]:
        """Return no warnings, because this carrier reads no files."""
        return []

    def policy(self, kinds: frozenset[Kind]) -> admission.Policy:
        """Return the rules by which this process now admits peers of the given kinds."""
        allowlist = self._allowlist() if self._allowlist else None
        return admission.Policy(self._me.trust_domain, kinds, allowlist)


class MemoryServer:
    """A server that listens on a `MemoryNetwork`."""

    def __init__(self, carrier: MemoryCarrier, address: str, on_link: OnLink) -> None:
        self.carrier = carrier
        self.open_links = OpenLinks(on_link)
        self._address = carrier.network.bind(address, self)

    @property
    def address(self) -> str:
        """``host:port`` at which the server listens, with the real port if 0 was requested."""
        return self._address

    def connect(self, client: MemoryCarrier) -> FramedLink:
        """Admit a client, connect both ends, and return the client's link.

        Raise Refused or Overloaded if the client is not admitted.
        """
        try:
            self._admit(client.me)
        except (Refused, Overloaded) as refusal:
            open_links.refused(client.me.name, refusal)
            raise
        near, far = _join(client, self.carrier)
        self.open_links.welcome(far, self)
        near.start()
        return near

    def reconsider(self) -> None:
        """Check the peer of every open link again, and close links that are no longer allowed."""
        open_links.reconsider(self.open_links.links, self._judge)

    def refuse_new(self) -> None:
        """Accept no new links. Open links stay."""
        self.open_links.full = True

    async def close(self) -> None:
        """Stop accepting connections and close every link."""
        self.carrier.network.release(self._address)
        await self.open_links.close(self)

    def _admit(self, identity: Identity) -> None:
        admission.admit(identity, self.carrier.policy(authorisation.accepts(self.carrier.me.kind)))
        self.open_links.require_room(identity, self.carrier.limits)

    def _judge(self, link: FramedLink) -> None:
        admission.admit(link.peer, self.carrier.policy(authorisation.accepts(self.carrier.me.kind)))


class MemoryWire:
    """One end of a connection in memory. Bytes reach the other end in the next turn of the loop."""

    scheme = Scheme.MEMORY
    silent_s = 0.0

    def __init__(self) -> None:
        self.link: FramedLink
        self.other: MemoryWire
        self._loop = asyncio.get_running_loop()
        self._in_flight_bytes = 0

    def write(self, stream: int, data: bytes, *, flush: bool = False) -> None:
        """Send bytes on a stream, in order. ``flush`` makes no difference for this carrier."""
        self._in_flight_bytes += len(data)
        self._loop.call_soon(self._arrive, stream, data)

    def hang_up(self, code: str, message: str) -> None:
        """Close the connection. The other end first receives all bytes that were written."""
        self._loop.call_soon(self.other.link.lost, code, message)

    def consumed(self) -> None:
        """Tell the sender's link that the application has taken a frame received on this wire."""
        self.other.link.written()

    @property
    def unsent_bytes(self) -> int:
        """Written bytes that the application at the other end has not taken yet."""
        return self._in_flight_bytes + self.other.link.inbox_bytes

    def _arrive(self, stream: int, data: bytes) -> None:
        self._in_flight_bytes -= len(data)
        self.other.link.data(stream, data)


def _join(dialling: MemoryCarrier, dialled: MemoryCarrier) -> tuple[FramedLink, FramedLink]:
    near, far = MemoryWire(), MemoryWire()
    near.other, far.other = far, near
    near.link = _link(Side.DIALLED, dialling, dialled.me, near)
    far.link = _link(Side.ACCEPTED, dialled, dialling.me, far)
    return near.link, far.link


def _link(side: Side, carrier: MemoryCarrier, peer: Identity, wire: MemoryWire) -> FramedLink:
    connection = Connection(
        side,
        me=carrier.me,
        peer=peer,
        incarnation=carrier.incarnation,
        capabilities=carrier.capabilities,
        frame_bytes_max=carrier.limits.frame_bytes_max,
        handshake_s=carrier.limits.handshake_s,
        frame_s=carrier.limits.frame_s,
    )
    return FramedLink(connection, wire, carrier.limits)
