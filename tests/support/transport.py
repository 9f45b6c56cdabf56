"""Builders around links and peers: identities, a pair of machines, a server that echoes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.connection import Connection, Side
from midstreamer.protocol.effects import Deliver, Effect, Transmit
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.carrier import Carrier

CLIENT = identity.make("local", Kind.CLIENT, "u1")
AGENT = identity.make("local", Kind.AGENT, "a1")
COORDINATOR = identity.make("local", Kind.COORDINATOR, "c1")
SYNC = identity.make("local", Kind.SYNC, "s1")


def a_survey() -> frames.Survey:
    return frames.Survey()


def holdings(position: int) -> frames.Holdings:
    return frames.Holdings(position, ())


@dataclass
class Pair:
    """An agent's and a coordinator's machine, joined by hand: `pass_on` moves the bytes."""

    near: Connection = field(
        default_factory=lambda: Connection(
            Side.DIALLED, me=AGENT, peer=COORDINATOR, incarnation="i1"
        )
    )
    far: Connection = field(
        default_factory=lambda: Connection(Side.ACCEPTED, me=COORDINATOR, peer=AGENT)
    )

    def pass_on(self, effects: list[Effect], to: Connection) -> list[Effect]:
        """Give what was transmitted to the other machine; what it wants done comes back."""
        wanted: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Transmit):
                wanted += to.receive(effect.stream, effect.data)
        return wanted

    def open(self) -> Pair:
        """Take both through the handshake."""
        self.far.start(0.0)
        answers = self.pass_on(self.near.start(0.0), self.far)
        self.pass_on(self.pass_on(answers, self.near), self.far)
        return self


def delivered(effects: list[Effect]) -> list[frames.Frame]:
    return [effect.frame for effect in effects if isinstance(effect, Deliver)]


async def answer_surveys(peer: Peer, frame: frames.Frame) -> frames.Answer | None:
    """A handler that answers Survey with who asked."""
    if isinstance(frame, frames.Survey):
        member = frames.Member(peer.identity.name, peer.incarnation, "")
        return frames.Surveyed(members=(member,))
    return None


@asynccontextmanager
async def a_quic_server(carrier: Carrier) -> AsyncIterator[QuicServer]:
    """A server on a free port that answers every Survey."""
    serving = await peers.listen(carrier, "127.0.0.1:0", handle=answer_surveys)
    server = serving._server
    assert isinstance(server, QuicServer)
    yield server
    await serving.close()
