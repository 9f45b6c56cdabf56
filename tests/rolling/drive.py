"""Carries a plan out: starts a fleet and two clients that send load, then performs each event."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from midstreamer.cli import state_folder
from midstreamer.domain import shard
from tests.load import audit, client_requests
from tests.load.client_reports import Heard
from tests.rolling import judgement
from tests.rolling.fleet import Fleet, client_environment
from tests.rolling.judgement import Evidence, Happened, Outcome
from tests.rolling.plan import CLIENTS, Event, Plan, Version
from tests.support import previous_version

MATCHES_PER_S, APPENDS_PER_S = 50.0, 20.0
"""Matches and appends per second, of both clients together."""
DEADLINE_S = 30.0
CALM_S = 4.0
"""Seconds of load before the first event; they show how long requests take without an event."""
BETWEEN_S = 1.0
DRAIN_S = 15.0
"""Seconds that a client may take to end, beyond the deadline of its last request."""
LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Options:
    """Options for carrying out a plan of restarts."""

    rate: float = 1.0
    """The load as a share of the usual load."""
    kill: bool = False
    keep: bool = False
    calm_s: float = CALM_S
    carrier: str = "quic"


@dataclass
class Result:
    """The result of carrying out a plan of restarts."""

    outcomes: list[Outcome]
    """One outcome for the time before the first event, then one for each event of the plan."""
    evidence: Evidence
    broken: list[str]
    """What must not happen but did, such as a failed request; empty if nothing went wrong."""
    ticks: int
    decisions: int


async def run(plan: Plan, options: Options, folder: Path, news: Callable[[str], None]) -> Result:
    """Carry out a plan under load; return how its events affected requests, and what went wrong."""
    heard, happened = Heard(), list[Happened]()
    with state_folder.held(folder) as place:
        fleet = Fleet(place, plan.versions, news, options.carrier)
        try:
            async with fleet:
                async with clients(fleet, plan.clients, options.rate, heard):
                    fleet.shards = shard.REPLICAS * client_requests.SERIES * len(CLIENTS)
                    await fleet.whole()
                    await asyncio.sleep(options.calm_s)
                    for event in plan.events:
                        happened.append(await perform(fleet, event, options))
                        await asyncio.sleep(BETWEEN_S)
                        outcome = judgement.outcomes(happened, heard.requests, heard.retries)[-1]
                        news(line(outcome))
                evidence = await look(fleet, heard)
            evidence.log_lines = read_logs(place.logs)
        finally:
            if not options.keep:
                await fleet.server.erase()
    found = judgement.outcomes(happened, heard.requests, heard.retries)
    broken = judgement.broken(found, evidence, kill=options.kill) + heard.troubles
    return Result(found, evidence, broken, heard.ticks, len(heard.decisions))


async def perform(fleet: Fleet, event: Event, options: Options) -> Happened:
    """Carry out one event, and wait until the fleet is complete again."""
    if not event.member:
        return await fleet.renew()
    how = signal.SIGKILL if options.kill else signal.SIGTERM
    return await fleet.replace(event.member, event.after, how)


def line(outcome: Outcome) -> str:
    """Return one event as a line of text, which is printed once the event is over."""
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
    """Run both clients during the block; at the end wait for their open requests."""
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
    """Start a client. The lists of the two clients begin with different coordinators."""
    share = rate / len(CLIENTS)
    coordinators = fleet.coordinators(version)
    turn = list(CLIENTS).index(name) % len(coordinators)
    addresses = [*coordinators[turn:], *coordinators[:turn]]
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
            cwd=previous_version.ROOT,
            env=client_environment(version),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LINE_BYTES_MAX,
        )


async def listen(
    name: str, process: asyncio.subprocess.Process, ready: asyncio.Event, heard: Heard
) -> None:
    """Record the reports that a client prints, until the client ends."""
    assert process.stdout is not None
    try:
        async for report in process.stdout:
            heard.take(name, json.loads(report))
            if report.startswith(b'{"ready"'):
                ready.set()
        code = await asyncio.wait_for(process.wait(), DRAIN_S)
        if not ready.is_set():
            raise RuntimeError(f"client {name} ended with {code} before its history was stored")
        if code:
            heard.troubles.append(f"client {name} ended with {code}; see its log")
    finally:
        ready.set()  # so that no task waits for a client that has ended


# --- these checks run after the load has ended ----------------------------------------------------


async def look(fleet: Fleet, heard: Heard) -> Evidence:
    """Find in the store: acknowledged data that is missing, and values that contradict others."""
    connection = await asyncpg.connect(fleet.server.dsn)
    try:
        found = await audit.stored(connection, heard)
    finally:
        await connection.close()
    return Evidence(audit.lost(heard, found), await audit.faults(fleet.server.dsn))


def read_logs(folder: Path) -> list[str]:
    """Return the log lines that `judgement.WRONG_LINE` matches, each with the name of its log."""
    return [
        wrong
        for path in sorted(folder.glob("*.log"))
        for wrong in judgement.wrong_lines(path.name, path.read_text("utf-8", errors="replace"))
    ]
