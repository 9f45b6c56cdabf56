"""Builders for tests of the client: small files, decisions, coordinators with scripted answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from midstreamer.client.api import AsyncClient
from midstreamer.client.request_retries import Policy
from midstreamer.domain import identity
from midstreamer.domain.decision import Decision, Direction, Reason
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.domain.match import Match, from_rows
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import frames
from midstreamer.runtime.peer import Listener, Peer, listen
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork

QUICK = Policy(attempt_s=0.5, backoff_first_s=0.001, backoff_most_s=0.01)
DAY = 86_400_000_000


class Script:
    """The scripted answers of a coordinator, one for each request; the last answer repeats."""

    def __init__(self, *answers: frames.Answer | MidstreamerError) -> None:
        self.answers = list(answers)
        self.asked: list[frames.Frame] = []

    async def __call__(self, peer: Peer, frame: frames.Frame) -> frames.Answer | None:
        if isinstance(frame, frames.Lookup) and not frame.experience_ids:
            # By a Lookup without ids a client asks for other coordinators. The answer names none.
            return frames.Experiences()
        self.asked.append(frame)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, MidstreamerError):
            raise answer
        return answer


def a_carrier(network: MemoryNetwork, kind: Kind = Kind.CLIENT, name: str = "u1") -> MemoryCarrier:
    return MemoryCarrier(network, identity.make("local", kind, name))


async def serve(network: MemoryNetwork, name: str, script: Script) -> Listener:
    me = a_carrier(network, Kind.COORDINATOR, name)
    return await listen(me, f"{name}:1", handle=script)


@asynccontextmanager
async def scripted(
    *scripts: Script, silent: Sequence[str] = (), deadline_s: float = 5.0
) -> AsyncIterator[AsyncClient]:
    """Run one coordinator for each script, and yield a client that connects to all of them.

    The client first tries the addresses in ``silent``, where nothing listens.
    """
    network = MemoryNetwork()
    names = [f"c{number}" for number in range(1, len(scripts) + 1)]
    servers = [await serve(network, *each) for each in zip(names, scripts, strict=True)]
    addresses = [*silent, *(f"{name}:1" for name in names)]
    client = AsyncClient(a_carrier(network), addresses, deadline_s=deadline_s, policy=QUICK)
    try:
        async with client as opened:
            yield opened
    finally:
        for server in servers:
            await server.close()


def a_decision(
    *,
    time: int = 30 * DAY,
    series: str = "sp500/AAPL",
    direction: Direction | None = None,
    confidence: float = 0.6,
    specification: Specification | None = None,
) -> Decision:
    rows = [Match("sp500/XOM", 8, 20 * DAY, 3.21, 0.5), Match("sp500/GE", 0, 19 * DAY, 4.0, -0.2)]
    return Decision(
        experience_id=f"{series}@{time}".encode(),
        specification=specification or Specification("sp500", window=8),
        series=series,
        time=time,
        index=30,
        window=b"\0" * 64,
        direction=direction,
        reason=None if direction else Reason.UNLICENSED,
        probability=0.4 if direction is Direction.SHORT else confidence,
        confidence=confidence,
        rank=0.9,
        change=0.01,
        low=-0.02,
        high=0.03,
        last=1.0,
        scale=0.01,
        arms=(0.5, confidence),
        judged=True,
        matches=from_rows(rows),
        state_version=1,
        library="reasoning/1",
        kernel="1",
    )


def a_verdict(decision: Decision, *, change: float = 0.02, hit: bool = True) -> Verdict:
    return Verdict(
        experience_id=decision.experience_id,
        series=decision.series,
        time=decision.time,
        due_time=decision.time + 5 * DAY,
        change=change,
        outcome=change / decision.scale,
        hit=hit,
        covered=decision.low <= change <= decision.high,
        brier=0.16,
        brier_arms=(0.25, 0.16),
        winkler=5.0,
    )


def a_csv(path: Path, *lines: str, header: str = "time,series,value") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
