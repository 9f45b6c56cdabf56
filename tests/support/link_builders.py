"""Builders for links and peers: identities, a pair of connections, a survey server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.connection import Connection, Side
from midstreamer.protocol.connection_effects import Deliver, Effect, Transmit
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
    """The connection state machines of an agent and a coordinator; `pass_on` moves their bytes."""

    near: Connection = field(
        default_factory=lambda: Connection(
            Side.DIALLED, me=AGENT, peer=COORDINATOR, incarnation="i1"
        )
    )
    far: Connection = field(
        default_factory=lambda: Connection(Side.ACCEPTED, me=COORDINATOR, peer=AGENT)
    )

    def pass_on(self, effects: list[Effect], to: Connection) -> list[Effect]:
        """Let the connection ``to`` receive the bytes that ``effects`` send; return its effects."""
        wanted: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Transmit):
                wanted += to.receive(effect.stream, effect.data)
        return wanted

    def open(self) -> Pair:
        """Complete the protocol handshake of both connections."""
        self.far.start(0.0)
        answers = self.pass_on(self.near.start(0.0), self.far)
        self.pass_on(self.pass_on(answers, self.near), self.far)
        return self


def delivered(effects: list[Effect]) -> list[frames.Frame]:
    return [effect.frame for effect in effects if isinstance(effect, Deliver)]


async def answer_surveys(peer: Peer, frame: frames.Frame) -> frames.Answer | None:
    """Answer a Survey with the identity of the peer that sent it."""
    if isinstance(frame, frames.Survey):
        member = frames.Member(peer.identity.name, peer.incarnation, "")
        return frames.Surveyed(members=(member,))
    return None


@asynccontextmanager
async def a_quic_server(carrier: Carrier) -> AsyncIterator[QuicServer]:
    """A QUIC server on a free port that answers every Survey."""
    serving = (await peers.listen(carrier, "127.0.0.1:0", handle=answer_surveys)).server
    assert isinstance(serving, QuicServer)
    yield serving
    await serving.close()
