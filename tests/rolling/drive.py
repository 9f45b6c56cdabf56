"""Carries a plan out: a fleet, two clients that ask all the time, and one event after another."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from midstreamer.cli import checking, state
from midstreamer.domain import shard
from midstreamer.domain.decision import Decision
from midstreamer.store import audit
from midstreamer.store.postgres import PostgresStore
from tests.rolling import judgement, load
from tests.rolling.fleet import Fleet, client_environment
from tests.rolling.judgement import Evidence, Happened, Outcome, Request, Retry
from tests.rolling.plan import CLIENTS, Event, Plan, Version
from tests.support import before

MATCHES_PER_S, APPENDS_PER_S = 50.0, 20.0
"""Of both clients together."""
DEADLINE_S = 30.0
CALM_S = 4.0
"""Of load before the first event: with what comes later one compares it."""
BETWEEN_S = 1.0
DRAIN_S = 15.0
"""What a client may take beyond the deadline of its last request."""
LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Options:
    """How a plan is carried out."""

    rate: float = 1.0
    """Share of the usual load."""
    kill: bool = False
    keep: bool = False
    calm_s: float = CALM_S
    carrier: str = "quic"


@dataclass
class Heard:
    """What the clients told."""

    requests: list[Request] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)
    stored: list[tuple[str, int, int]] = field(default_factory=list)
    """Acknowledged ticks: series, index of the first, how many."""
    decisions: dict[str, float] = field(default_factory=dict)
    """Acknowledged decisions: probability by experience id."""
    troubles: list[str] = field(default_factory=list)

    def take(self, client: str, said: dict[str, Any]) -> None:
        """One line of a client."""
        if "stored" in said:
            self.stored.append(tuple(said["stored"]))
        elif "retry" in said:
            self.retries.append(Retry(client, said["at_s"], said["retry"]))
        elif "what" in said:
            made = Request(client, said["what"], said["due_s"], said["end_s"], said["error"])
            self.requests.append(made)
            if "decision" in said:
                self.decisions[said["decision"][0]] = said["decision"][1]


@dataclass
class Result:
    """Everything that a run came to."""

    outcomes: list[Outcome]
    evidence: Evidence
    broken: list[str]
    ticks: int
    decisions: int


async def run(plan: Plan, options: Options, folder: Path, news: Callable[[str], None]) -> Result:
    """Carry a plan out under load, and judge it."""
    heard, happened = Heard(), list[Happened]()
    with state.held(folder) as place:
        fleet = Fleet(place, plan.versions, news, options.carrier)
        try:
            async with fleet:
                async with clients(fleet, plan.clients, options.rate, heard):
                    fleet.shards = shard.REPLICAS * load.SERIES * len(CLIENTS)
                    await fleet.whole()
                    await asyncio.sleep(options.calm_s)
                    for event in plan.events:
                        happened.append(await perform(fleet, event, options))
                        await asyncio.sleep(BETWEEN_S)
                        told = judgement.outcomes(happened, heard.requests, heard.retries)[-1]
                        news(line(told))
                evidence = await look(fleet, heard)
            evidence.log_lines = read_logs(place.logs)
        finally:
            if not options.keep:
                await fleet.server.erase()
    found = judgement.outcomes(happened, heard.requests, heard.retries)
    broken = judgement.broken(found, evidence, kill=options.kill) + heard.troubles
    ticks = sum(count for _, _, count in heard.stored)
    return Result(found, evidence, broken, ticks, len(heard.decisions))


async def perform(fleet: Fleet, event: Event, options: Options) -> Happened:
    """Do one thing to the fleet, and wait until it is whole again."""
    if not event.member:
        return await fleet.renew()
    how = signal.SIGKILL if options.kill else signal.SIGTERM
    return await fleet.replace(event.member, event.after, how)


def line(outcome: Outcome) -> str:
    """One event in one line, while the run goes on."""
    slowest = ", ".join(f"{what} {outcome.slowest_s(what):.2f} s" for what in ("append", "match"))
    return (
        f"{outcome.event.what} {outcome.event.signal}: ended in {outcome.event.ended_s:.1f} s,"
        f" whole after {outcome.event.back_s:.1f} s; {len(outcome.requests)} requests,"
        f" {len(outcome.failed)} failed, slowest {slowest},"
        f" longest silence {outcome.silence_s:.2f} s"
    )


# --- clients --------------------------------------------------------------------------------------


@asynccontextmanager
async def clients(
    fleet: Fleet, versions: dict[str, Version], rate: float, heard: Heard
) -> AsyncIterator[None]:
    """Both clients, asking while inside; at the end all that they asked has ended."""
    started: list[asyncio.subprocess.Process] = []
    try:
        async with asyncio.TaskGroup() as group:
            ready = []
            for name, version in versions.items():
                process = await client(fleet, name, version, rate)
                started.append(process)
                ready.append(asyncio.Event())
                group.create_task(listen(name, process, ready[-1], heard))
            await asyncio.gather(*(each.wait() for each in ready))
            try:
                yield
            finally:
                for process in started:
                    if process.returncode is None:
                        process.terminate()
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def client(
    fleet: Fleet, name: str, version: Version, rate: float
) -> asyncio.subprocess.Process:
    """Start one client; each begins with another coordinator."""
    share = rate / len(CLIENTS)
    there = fleet.coordinators(version)
    turn = list(CLIENTS).index(name) % len(there)
    addresses = [*there[turn:], *there[:turn]]
    words = {
        "identity": f"client/{name}",
        "certs": str(fleet.state.certs),
        "addresses": ",".join(addresses),
        "appends-per-s": str(APPENDS_PER_S * share),
        "matches-per-s": str(MATCHES_PER_S * share),
        "deadline-s": str(DEADLINE_S),
    }
    with (fleet.state.logs / f"{name}-{version}.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.rolling.load"),
            *(word for key, value in words.items() for word in (f"--{key}", value)),
            cwd=before.ROOT,
            env=client_environment(version),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LINE_BYTES_MAX,
        )


async def listen(
    name: str, process: asyncio.subprocess.Process, ready: asyncio.Event, heard: Heard
) -> None:
    """Take in what a client tells until it ends."""
    assert process.stdout is not None
    try:
        async for said in process.stdout:
            heard.take(name, json.loads(said))
            if said.startswith(b'{"ready"'):
                ready.set()
        code = await asyncio.wait_for(process.wait(), DRAIN_S)
        if not ready.is_set():
            raise RuntimeError(f"client {name} ended with {code} before its history was stored")
        if code:
            heard.troubles.append(f"client {name} ended with {code}; see its log")
    finally:
        ready.set()  # whoever waits for it goes on, and is cancelled when this raised


# --- looking afterwards ---------------------------------------------------------------------------


async def look(fleet: Fleet, heard: Heard) -> Evidence:
    """What is stored of what was acknowledged, and what contradicts itself in the store."""
    evidence = Evidence()
    connection = await asyncpg.connect(fleet.server.dsn)
    try:
        rows = await connection.fetch(
            "SELECT s.name, p.time, p.value FROM points p JOIN series s ON s.id = p.series_id"
        )
        evidence.lost += lost_ticks(heard.stored, {(row[0], row[1]): row[2] for row in rows})
        rows = await connection.fetch("SELECT experience_id, body FROM decisions")
        bodies = {row[0].hex(): row[1] for row in rows}
        evidence.lost += lost_decisions(heard.decisions, bodies)
    finally:
        await connection.close()
    store = PostgresStore(fleet.server.dsn)
    await store.open()
    try:
        async with store.auditing() as reader:
            report = await audit.Audit(reader, checking.rules()).run()
        evidence.faults += [str(each) for each in report.kept]
    finally:
        await store.close()
    return evidence


def lost_ticks(
    acknowledged: list[tuple[str, int, int]], stored: dict[tuple[str, int], float]
) -> list[str]:
    """Acknowledged ticks that are not stored, or with another value."""
    lost = []
    for series, first, count in acknowledged:
        values = load.values_of(series.partition("/")[2])
        for index in range(first, first + count):
            value = stored.get((series, load.time_at(index)))
            if value != float(values[index]):
                lost.append(f"tick {index} of {series}: sent {values[index]}, stored {value}")
    return lost


def lost_decisions(acknowledged: dict[str, float], bodies: dict[str, bytes]) -> list[str]:
    """Acknowledged decisions that are not stored, or with another probability."""
    lost = []
    for experience_id, probability in acknowledged.items():
        body = bodies.get(experience_id)
        stored = msgspec.msgpack.decode(body, type=Decision).probability if body else None
        if stored != probability:
            lost.append(f"decision {experience_id}: answered {probability}, stored {stored}")
    return lost


def read_logs(folder: Path) -> list[str]:
    """What no log may say, of all lives of all processes."""
    return [
        wrong
        for path in sorted(folder.glob("*.log"))
        for wrong in judgement.wrong_lines(path.name, path.read_text("utf-8", errors="replace"))
    ]
