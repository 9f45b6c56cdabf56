"""Several servers in one process, behind one shared address or behind one host name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from midstreamer.domain import identity
from midstreamer.domain.errors import LinkClosed, MidstreamerError, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Listener, Peer, Session
from midstreamer.transport.carrier import Link
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.link_builders import CLIENT

SHARED = "10.0.0.9:30400"
NAME = "pods.test:7400"


class Server:
    """A coordinator that answers surveys, and drains when a test asks for it."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.peers: list[Peer] = []
        self.asked_s: list[float] = []
        self.silent = False
        """True: a client that dials this server gets no answer, as if its pod was killed."""
        self.listener: Listener

    async def listen(self, network: MemoryNetwork) -> None:
        me = MemoryCarrier(network, identity.make("local", Kind.COORDINATOR, self.name))
        self.listener = await peers.listen(
            me, self.address, handle=self._handle, opened=self._opened
        )

    def drain(self) -> None:
        """Send Drain to all peers, and refuse new ones."""
        self.listener.refusing = True
        for peer in self.listener.peers:
            peer.drain(leaving=True)

    async def _handle(self, _peer: Peer, _frame: frames.Frame) -> frames.Answer:
        self.asked_s.append(asyncio.get_running_loop().time())
        return frames.Surveyed()

    async def _opened(self, peer: Peer) -> None:
        self.peers.append(peer)


class SeveralCarrier(MemoryCarrier):
    """A carrier to several servers, behind the address `SHARED` and behind the name `NAME`."""

    def __init__(self, network: MemoryNetwork, servers: Sequence[Server]) -> None:
        super().__init__(network, CLIENT)
        self.servers = list(servers)
        self.turns: list[int] = []
        """Indexes of the servers that the next dials of `SHARED` reach, one for each dial.

        When the list is empty, the dials reach all servers in turn.
        """
        self.named: list[str] = [server.address for server in servers]
        self.lookup_error: MidstreamerError | None = None
        self.resolving: asyncio.Event | None = None
        """The event that look-ups of names wait for; with None look-ups return immediately."""
        self.looked_up = 0
        self.dialled: list[tuple[float, str, str]] = []
        """Each dial: its time, the address, and the name of the server that it reached."""

    async def places(self, address: str) -> Sequence[str]:
        if address != NAME:
            return (address,)
        self.looked_up += 1
        if self.resolving is not None:
            await self.resolving.wait()
        if self.lookup_error is not None:
            raise self.lookup_error
        return list(self.named)

    async def dial(self, address: str, *, expect: Kind) -> Link:
        turn = self.turns.pop(0) if self.turns else len(self.dialled)
        chosen = self.servers[turn % len(self.servers)]
        at = chosen.address if address == SHARED else address
        server = next((each for each in self.servers if each.address == at), None)
        loop = asyncio.get_running_loop()
        self.dialled.append((loop.time(), address, server.name if server else ""))
        if server is not None and server.silent:
            await asyncio.sleep(5.0)
            raise Unavailable(f"{address} does not answer within 5 s")
        return await super().dial(at, expect=expect)


async def survey(session: Session, budget_s: float = 5.0) -> float:
    """Send a Survey, and repeat it when the link ends; return the seconds until the answer."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with asyncio.timeout(budget_s):
        while True:
            try:
                answer = await session.ask(frames.Survey(), budget_s=budget_s)
            except LinkClosed:  # the link had ended before the session noticed
                continue
            assert isinstance(answer, frames.Surveyed)
            return loop.time() - began_s
