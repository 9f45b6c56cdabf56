"""Several servers in one process: behind one address that they share, or behind one name."""

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
from tests.support.transport import CLIENT

SHARED = "10.0.0.9:30400"
NAME = "pods.test:7400"


class Server:
    """A coordinator that answers surveys, and drains when it is told."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.peers: list[Peer] = []
        self.asked_s: list[float] = []
        self.silent = False
        """It takes no dial and says nothing: as a pod that was killed."""
        self.listener: Listener

    async def listen(self, network: MemoryNetwork) -> None:
        me = MemoryCarrier(network, identity.make("local", Kind.COORDINATOR, self.name))
        self.listener = await peers.listen(
            me, self.address, handle=self._handle, opened=self._opened
        )

    def drain(self) -> None:
        """Say so to all peers, and to those that still come."""
        self.listener.refusing = True
        for peer in self.listener.peers:
            peer.drain(leaving=True)

    async def _handle(self, _peer: Peer, _frame: frames.Frame) -> frames.Answer:
        self.asked_s.append(asyncio.get_running_loop().time())
        return frames.Surveyed()

    async def _opened(self, peer: Peer) -> None:
        self.peers.append(peer)


class SeveralCarrier(MemoryCarrier):
    """Reaches the servers by `SHARED`, each dial the next of them, and looks `NAME` up."""

    def __init__(self, network: MemoryNetwork, servers: Sequence[Server]) -> None:
        super().__init__(network, CLIENT)
        self.servers = list(servers)
        self.turns: list[int] = []
        """Which server the next dials of `SHARED` reach; then each in turn."""
        self.named: list[str] = [server.address for server in servers]
        self.lookup_error: MidstreamerError | None = None
        self.resolving: asyncio.Event | None = None
        """What look-ups wait for."""
        self.looked_up = 0
        self.dialled: list[tuple[float, str, str]] = []
        """When, which address, and which server it reached."""

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
        server = next((one for one in self.servers if one.address == at), None)
        loop = asyncio.get_running_loop()
        self.dialled.append((loop.time(), address, server.name if server else ""))
        if server is not None and server.silent:
            await asyncio.sleep(5.0)
            raise Unavailable(f"{address} does not answer within 5 s")
        return await super().dial(at, expect=expect)


async def survey(session: Session, budget_s: float = 5.0) -> float:
    """Ask, again when the link ends, and say how long the answer took, in seconds."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with asyncio.timeout(budget_s):
        while True:
            try:
                answer = await session.ask(frames.Survey(), budget_s=budget_s)
            except LinkClosed:  # it was not yet known that the link had ended
                continue
            assert isinstance(answer, frames.Surveyed)
            return loop.time() - began_s
