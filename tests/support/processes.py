"""A fleet of real processes on QUIC and PostgreSQL, with functions to kill and inspect them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import msgspec
import numpy as np

from midstreamer.cli import child_processes, state_folder
from midstreamer.cli.local_fleet import LocalFleet
from midstreamer.cli.run_settings import RunSettings
from midstreamer.client.api import AsyncClient
from midstreamer.domain.decision import Decision
from midstreamer.domain.series import Column, column
from midstreamer.domain.specification import Specification, Transform
from midstreamer.domain.verdict import Verdict
from midstreamer.market import feeds, replay
from midstreamer.market.feeds import Table
from tests.load import audit

POSTGRES = "postgres"
WITHIN_S = 60.0
POLL_S = 0.05
HOUR = 3_600_000_000
SHARD_POINTS = 64
"""Points in one shard: so few that even a short series has several shards."""
TABLES = ("series", "points", "decisions", "verdicts", "events", "states")


# --- a fleet ------------------------------------------------------------------------------------


@dataclass
class Processes:
    """A running fleet, and a client connected to it."""

    fleet: LocalFleet
    client: AsyncClient
    news: list[str]
    kills: list[str] = field(default_factory=list)

    def part(self, name: str) -> child_processes.Child:
        """Return a process by its name, as in ``sync`` or ``agent-2``."""
        return next(each for each in self.fleet.children if each.name == name)

    def pid(self, name: str) -> int | None:
        """Return the process id of a process of the fleet; None while it restarts."""
        if name == POSTGRES:
            return self.fleet.server.pid
        process = self.part(name).process
        return process.pid if process is not None and process.returncode is None else None

    def kill(self, name: str, *, why: str = "") -> int:
        """Kill a process of the fleet with SIGKILL; return the process id that it had."""
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run: {self}"
        self.kills.append(f"{name} (pid {pid}) {why}".strip())
        os.kill(pid, signal.SIGKILL)
        return pid

    async def back(self, name: str, *, after: int) -> None:
        """Wait until a restarted process is complete, with another process id than ``after``."""

        async def lives() -> bool:
            if self.pid(name) in {None, after}:
                return False
            health = self.part("sync" if name == POSTGRES else name).health
            return await child_processes.complete(health)

        await until(lives, f"{name} to come back")

    async def ready(self) -> None:
        """Wait until every process reports that it is complete."""

        async def all_ready() -> bool:
            probes = (child_processes.complete(each.health) for each in self.fleet.children)
            return all(await asyncio.gather(*probes))

        await until(all_ready, "every process to be ready")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add a note to any error in the block: killed processes, log paths, launcher messages."""
        try:
            yield
        except BaseException as error:
            error.add_note(str(self))
            raise

    def __str__(self) -> str:
        return (
            f"killed: {'; '.join(self.kills) or 'nothing'}\nlogs: {self.fleet.state.logs} and"
            f" {self.fleet.server.log}\nlauncher: " + "\n          ".join(self.news)
        )

    # --- reading the store ---

    async def sql(self, query: str, *arguments: Any) -> list[Any]:
        """Return the rows of a query, read directly from PostgreSQL."""
        connection = await asyncpg.connect(self.fleet.server.dsn)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def counts(self) -> dict[str, int]:
        """Return the number of rows in each table of `TABLES`."""
        query = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in TABLES)
        return dict(await self.sql(query))

    async def faults(self) -> list[str]:
        """Derive all stored values again, and return every promise that the store violates."""
        return await audit.faults(self.fleet.server.dsn)


@asynccontextmanager
async def a_fleet(folder: Path, *, agents: int = 3) -> AsyncIterator[Processes]:
    """A ready fleet of processes, started as by `midstreamer run`; its data are removed after."""
    config = folder / "fleet.toml"
    config.write_text(f"[sync]\nshard_points = {SHARD_POINTS}\n[agent]\nthreads = 1\n")
    news: list[str] = []
    with state_folder.held(folder / "state") as place:
        settings = RunSettings(agents=agents)
        fleet = LocalFleet(place, settings, config_file=config, news=news.append)
        try:
            async with fleet, AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
                yield Processes(fleet, client, news)
        finally:
            await fleet.server.erase()


async def readiness(health: str) -> str:
    """Return the answer of a readiness probe; empty while nothing listens."""
    host, _, port = health.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return ""
    try:
        writer.write(f"GET /readyz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return (await reader.read()).decode().partition("\r\n\r\n")[2].strip()
    finally:
        writer.close()


async def until(
    holds: Callable[[], Awaitable[bool]], what: str, *, within_s: float = WITHIN_S
) -> None:
    """Wait until ``holds`` returns True, with a check every `POLL_S` seconds."""
    try:
        async with asyncio.timeout(within_s):
            while not await holds():  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"waited {within_s:g} s for {what}") from None


# --- commands -----------------------------------------------------------------------------------


class Ended(NamedTuple):
    """Exit code and output of a finished command."""

    code: int
    output: str
    error: str


async def command(*words: str, **environment: str) -> Ended:
    """Run ``midstreamer`` with these words until it ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "midstreamer", *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WITHIN_S):
            output, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode or 0, output.decode(), error.decode())


# --- replays ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """The data of a universe for a replay: first a history, then live steps."""

    universe: str
    history: int = 150
    live: int = 60
    series: int = 4

    @property
    def specification(self) -> Specification:
        return Specification(
            self.universe,
            window=16,
            horizon=2,
            neighbours=10,
            band=2,
            grid=4,
            transform=Transform.IDENTITY,
        )

    def columns(self) -> list[Column]:
        """Return the series: random walks and noisy waves from fixed seeds, one tick an hour."""
        count = self.history + self.live
        times = np.arange(1, count + 1) * HOUR
        columns = []
        for number in range(self.series):
            steps = np.random.default_rng(number).standard_normal(count)
            wave = 20.0 * np.sin(np.arange(count) * (2 * np.pi / 24) + number)
            values = 100.0 + (steps.cumsum() if number % 2 else wave + steps)
            columns.append(column(f"{self.universe}/{number:02d}", times, values))
        return columns

    def plan(self) -> replay.ReplayPlan:
        columns = self.columns()
        table = feeds.table(
            [each.series for each in columns],
            np.repeat(np.arange(len(columns)), self.history + self.live),
            np.concatenate([each.times_array() for each in columns]),
            np.concatenate([each.values_array() for each in columns]),
        )
        return replay.ReplayPlan(self.specification, *self._cut(table))

    def _cut(self, table: Table) -> tuple[Table, Table]:
        at = (self.history + 1) * HOUR
        return table.between(at, None), table.between(None, at)


@dataclass
class Replayed:
    """The answers that a replay received; all of them are durable."""

    decisions: list[Decision] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)

    @property
    def encoded(self) -> list[bytes]:
        """The decisions in encoded form, for comparison to the bit."""
        return [msgspec.msgpack.encode(decision) for decision in self.decisions]


async def replayed(
    processes: Processes, world: World, after_step: Callable[[int], None] = lambda _: None
) -> Replayed:
    """Replay a world's series; after each step pass ``after_step`` the number of steps so far."""
    answers = Replayed()

    def hear(event: replay.Event) -> None:
        match event:
            case replay.Stepped():
                answers.decisions += event.decisions
                answers.verdicts += event.verdicts
                after_step(event.done)
            case replay.Waiting():
                answers.waits.append(f"{event.code}: {event.message}")

    await replay.Replay(processes.client, world.plan(), hear).run()
    return answers


def values_of(columns: Sequence[Column]) -> dict[str, list[tuple[int, float]]]:
    """Return the (time, value) pairs of every series, by series name."""
    return {
        each.series: list(
            zip(each.times_array().tolist(), each.values_array().tolist(), strict=True)
        )
        for each in columns
    }
