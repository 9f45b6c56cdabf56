"""Measure a whole fleet against its targets: ``make bench-fleet``.

PostgreSQL, sync, a coordinator and three agents run as processes on loopback, loaded with the
history of twenty stocks.  A client in this process measures one thing after the other.  One fleet
is connected by QUIC, a second one by WebSocket.  The fleets are measured alternately.  Each result
over WebSocket is shown as a ratio to the result over QUIC, and the targets are for QUIC.  Latencies
are what the caller sees.  When requests are sent at a fixed rate, a latency counts from the planned
start of the request.  So if the fleet stalls, the requests that have to wait count as late, too.

Round trips of the fleets and of a bare UDP echo are measured alternately, in rounds.  Another
program on the machine may occupy a processor for some milliseconds and so raise the p99 of one
round.  The result is therefore the median of the rounds; the JSON has the result of each round.

Two of the three agents hold each shard.  An appended point counts as searchable on both of them
when all three agents have reached the position of the append in the change feed.  The client reads
the position that an agent has reached from `/metrics` of the agent.  So the result includes the
time of these HTTP requests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import datetime
import functools
import gc
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from rich.console import Console
from rich.table import Table

import midstreamer_kernels
from benchmarks import udp_echo
from midstreamer import AsyncClient, Specification, Tick, Window, window
from midstreamer.cli import state_folder
from midstreamer.cli.local_fleet import LocalFleet
from midstreamer.cli.run_settings import RunSettings
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Column
from midstreamer.market import datasets
from midstreamer.protocol import frames
from midstreamer.runtime.peer import dial
from midstreamer.telemetry import logs

TIMER_S = 0.0015
"""Longest delay of the event loop's timers in seconds.

To send a request at a planned time, the client first sleeps until `TIMER_S` before that time.  A
busy loop waits for the rest.
"""
SETTLE_S = 3.0
"""Seconds to wait after the start of a fleet, until work such as taking first leases has ended."""
RATE_PER_S = 200
SECONDS = 10.0
ROUNDS = 5
SAMPLES = 200
BATCH = 10
AGENTS = 3
COLUMNS = 120
"""Width of the table if the output is no terminal."""
DAY = 86_400_000_000


@dataclass(frozen=True)
class Row:
    """One measurement and its target; ``p50`` and ``p99`` are in ``unit``."""

    what: str
    unit: str
    p50: float
    p99: float | None = None
    target: str = ""
    held: bool = True
    count: int = 0
    p99_of_rounds: tuple[float, ...] = ()
    ratio: float = math.nan
    """``p50`` over WebSocket divided by ``p50`` over QUIC; NaN in rows without this comparison."""


def row(what: str, *rounds: list[float], p99_max_ms: float = math.inf) -> Row:
    """Return the row for a measurement that was made in one or more rounds.

    Each round is a list of durations in seconds.  Percentiles are computed for each round; the row
    has their medians.
    """
    p50s, p99s = (
        tuple(float(np.percentile(seconds, q)) * 1e3 for seconds in rounds) for q in (50, 99)
    )
    p50, p99 = statistics.median(p50s), statistics.median(p99s)
    target = "" if math.isinf(p99_max_ms) else f"p99 < {p99_max_ms:g}"
    count = sum(map(len, rounds))
    return Row(what, "ms", p50, p99, target, p99 < p99_max_ms, count, p99s if rounds[1:] else ())


async def open_loop(ask: Callable[[], Awaitable[object]], rate_per_s: float) -> list[float]:
    """Send requests at a fixed rate without waiting for answers; return latencies in seconds.

    A latency counts from the planned start of its request.
    """
    loop = asyncio.get_running_loop()
    begin_s, taken = loop.time() + 0.1, []

    async def one(due_s: float) -> None:
        while loop.time() < due_s:  # noqa: ASYNC110 - no event marks a time
            await asyncio.sleep(0)
        await ask()
        taken.append(loop.time() - due_s)

    gc.collect()
    gc.freeze()  # garbage collections skip all present objects
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate_per_s * SECONDS)):
            due_s = begin_s + number / rate_per_s
            await asyncio.sleep(due_s - loop.time() - TIMER_S)
            group.create_task(one(due_s))
    return taken


async def in_turn(ask: Callable[[int], Awaitable[object]], count: int = SAMPLES) -> list[float]:
    """Send requests one after another; return the duration of each in seconds."""
    taken = []
    for number in range(count):
        begin_s = time.perf_counter()
        await ask(number)
        taken.append(time.perf_counter() - begin_s)
    return taken


class Bench:
    """The measurements of one fleet, made by one client."""

    def __init__(self, fleet: LocalFleet, client: AsyncClient, carrier: str) -> None:
        self.fleet, self.client, self.carrier = fleet, client, carrier
        self.stocks = datasets.load(datasets.DATASETS["sp500"])
        self.columns: list[Column] = self.stocks.columns()
        self.specification = datasets.DATASETS["sp500"].specification
        self.rows: list[Row] = []

    def windows(self, count: int, specification: Specification) -> Iterator[Window]:
        """Yield windows that end within the last thousand points of each of the twenty stocks."""
        for number in range(count):
            column = self.columns[number % len(self.columns)]
            end = len(column) - 1 - (number * 37) % 1000
            values = column.values_array()[end - specification.window + 1 : end + 1]
            yield window(values, series=column.series, time=int(column.times_array()[end]))

    @contextlib.asynccontextmanager
    async def round_trips(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Yield a function that sends the smallest request, an empty Lookup.

        The coordinator answers it alone.  The request and its answer cross the whole stack:
        carrier, authorisation, codec.
        """
        carrier = self.fleet.client_carrier()
        peer = await dial(carrier, self.fleet.coordinator, expect=Kind.COORDINATOR)

        async def ask() -> None:
            await peer.ask(frames.Lookup(experience_ids=()))

        yield ask
        await peer.close()

    async def load(self) -> None:
        """Append the whole history of the twenty stocks, and wait until it can be searched."""
        begin_s = time.perf_counter()
        await self.client.append(self.columns)
        points = sum(map(len, self.columns))
        seconds = time.perf_counter() - begin_s
        self.rows.append(Row("history appended", "ticks/s", points / seconds, count=points))
        await self._match(next(self.windows(1, self.specification)), self.specification)

    async def whole_match(self, grid: int, name: str) -> None:
        """Measure how long a client waits for the decision on one window.

        The search covers the history of all twenty stocks.  Analogs may begin only at multiples of
        ``grid``.  The title of the row ends with ``name``.
        """
        specification = structs.replace(self.specification, grid=grid)
        made = list(self.windows(SAMPLES + 20, specification))
        await in_turn(lambda number: self._match(made[SAMPLES + number], specification), 20)
        taken = await in_turn(lambda number: self._match(made[number], specification))
        self.rows.append(row(f"match over 20 stocks, {name}", taken))

    async def throughput(self) -> None:
        """Measure matches per second, with 16 windows per request and 8 concurrent requests."""
        made = list(self.windows(16, self.specification))
        begin_s, done = time.perf_counter(), 0

        async def ask() -> None:
            nonlocal done
            while time.perf_counter() - begin_s < SECONDS:
                await self.client.match_many(made, self.specification, record=False)
                done += len(made)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
        rate = done / (time.perf_counter() - begin_s)
        self.rows.append(Row("matches on the grid, 8 × 16 at once", "1/s", rate, count=done))

    async def searchable(self) -> None:
        """Measure the time from sending a tick until searches on every agent include it."""
        agents = [child.health for child in self.fleet.children if child.verb == "agent"]

        async def ask(number: int) -> None:
            await self.client.append([Tick("bench/one", number * DAY, float(number))])
            await asyncio.gather(*(reached(each, self.client.position) for each in agents))

        self.rows.append(
            row("append → searchable on both replicas", await in_turn(ask), p99_max_ms=100.0)
        )

    async def durable(self) -> None:
        """Measure the time to commit an append of ten ticks, one for each of ten series."""

        async def ask(number: int) -> None:
            await self.client.append(
                [Tick(f"batch/s{each}", number * DAY, float(number)) for each in range(BATCH)]
            )

        self.rows.append(row(f"durable batch of {BATCH}", await in_turn(ask), p99_max_ms=100.0))

    def dtw(self) -> None:
        """Measure DTW of two series of 1,000 points without a band, in this process."""
        dice = np.random.default_rng(1)
        a, b = dice.standard_normal((2, 1000)).cumsum(axis=1)
        taken = []
        for _ in range(SAMPLES):
            begin_s = time.perf_counter()
            midstreamer_kernels.dtw(a, b)
            taken.append(time.perf_counter() - begin_s)
        self.rows.append(row("DTW of 1,000 points", taken[10:], p99_max_ms=10.0))

    async def _match(self, made: Window, specification: Specification) -> None:
        await self.client.match_many([made], specification, record=False)


async def reached(address: str, position: int) -> None:
    """Wait until the process with metrics at ``address`` has reached a feed position."""
    while await feed_position(address) < position:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.002)


async def feed_position(address: str) -> float:
    """Return the feed position in the metrics of a process; -1 if there is none."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        answer = (await reader.read()).decode()
    finally:
        writer.close()
    line = next(
        (each for each in answer.splitlines() if each.startswith("midstreamer_feed_position ")), ""
    )
    return float(line.partition(" ")[2] or -1)


async def round_trips(benches: list[Bench]) -> None:
    """Measure round trips of each fleet and of a bare UDP echo alternately."""
    rounds: dict[str, list[list[float]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        asks = {
            bench.carrier: await stack.enter_async_context(bench.round_trips()) for bench in benches
        }
        bare = await stack.enter_async_context(udp_echo.beside())
        await asyncio.sleep(SETTLE_S)
        for _ in range(ROUNDS):
            for name, ask in asks.items():
                again = functools.partial(_again, ask)
                rounds.setdefault(f"{name} in a row", []).append(await in_turn(again, 2 * SAMPLES))
                rounds.setdefault(name, []).append(await open_loop(ask, RATE_PER_S))
            rounds.setdefault("bare", []).append(await open_loop(bare, RATE_PER_S))
    for bench in benches:
        most = 2.0 if bench.carrier == "quic" else math.inf
        name = bench.carrier
        bench.rows += [
            row(f"round trip at {RATE_PER_S} requests/s", *rounds[name], p99_max_ms=most),
            row("the same, one after another", *rounds[f"{name} in a row"]),
        ]
    benches[0].rows.append(row(f"bare UDP echo at {RATE_PER_S} datagrams/s", *rounds["bare"]))


async def _again(ask: Callable[[], Awaitable[None]], _number: int) -> None:
    await ask()


@contextlib.asynccontextmanager
async def a_bench(folder: Path, carrier: str, news: Callable[[str], None]) -> AsyncIterator[Bench]:
    """Run a fleet over one carrier and yield its `Bench`, with a client that is connected."""
    settings = RunSettings(agents=AGENTS, carrier=carrier)
    with state_folder.held(folder / carrier) as kept:
        fleet = LocalFleet(kept, settings, config_file=None, news=news)
        async with fleet, AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
            yield Bench(fleet, client, carrier)
        await fleet.server.erase()


async def measure(folder: Path, carriers: list[str], news: Callable[[str], None]) -> list[Row]:
    """Start a fleet for each carrier, measure them alternately, and stop them."""
    async with contextlib.AsyncExitStack() as stack:
        benches = [
            await stack.enter_async_context(a_bench(folder, carrier, news)) for carrier in carriers
        ]
        news("measuring round trips")
        await round_trips(benches)
        steps: list[tuple[str, Callable[[Bench], Awaitable[None]]]] = [
            ("loading the stocks", Bench.load),
            ("matches at step 1", lambda bench: bench.whole_match(1, "step 1")),
            ("matches on the grid", lambda bench: bench.whole_match(8, "grid of 8")),
            ("throughput", Bench.throughput),
            ("append to searchable", Bench.searchable),
            ("durable batches", Bench.durable),
        ]
        for name, step in steps:
            for bench in benches:
                news(f"measuring {name} over {bench.carrier}")
                await step(bench)
    news("measuring dtw")
    benches[0].dtw()
    return side_by_side(benches)


def side_by_side(benches: list[Bench]) -> list[Row]:
    """Return the rows of all fleets, so ordered that rows of one measurement are neighbours."""
    first, *others = benches
    rows: list[Row] = []
    for made in first.rows:
        beside = [
            (bench.carrier, each)
            for bench in others
            for each in bench.rows
            if each.what == made.what
        ]
        mark = f" ({first.carrier})" if beside else ""
        rows.append(dataclasses.replace(made, what=made.what + mark))
        rows += [
            dataclasses.replace(
                each, what=f"{each.what} ({carrier})", target="", held=True,
                ratio=each.p50 / made.p50,
            )
            for carrier, each in beside
        ]  # fmt: skip
    return rows


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores and the version of Python."""
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        cpu = named[0] if named else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu or platform.machine(), "cores": cores, "python": platform.python_version()}


def shown(rows: list[Row]) -> Table:
    """Return the rows as a table for people."""
    caption = f"round trips and echo: medians of {ROUNDS} alternating rounds"
    for each in rows:
        if each.p99_of_rounds:
            rounds = ", ".join(f"{p99:.2f}" for p99 in each.p99_of_rounds)
            caption += f"\np99 of {each.what}: {rounds}"
    table = Table(title="A fleet of processes against its targets", caption=caption)
    for heading in ("", "p50", "p99", "unit", "× QUIC", "target", "held", "count"):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    for each in rows:
        p99 = "" if each.p99 is None else f"{each.p99:,.2f}"
        held = "" if not each.target else "yes" if each.held else "NO"
        ratio = "" if math.isnan(each.ratio) else f"{each.ratio:.2f}"
        table.add_row(
            *(each.what, f"{each.p50:,.2f}", p99, each.unit),
            *(ratio, each.target, held, f"{each.count:,}"),
        )
    return table


def _plain(made: Row) -> dict[str, Any]:
    """Return a row without NaN values, which JSON does not have."""
    return {key: value for key, value in vars(made).items() if value == value}


def main() -> int:
    """Measure and print; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="make bench-fleet", description=__doc__)
    parser.add_argument(
        "--carrier",
        choices=("quic", "wss"),
        action="append",
        help="measure only this carrier; default: both",
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    logs.configure(json=False, level="error")
    screen, told = Console(), Console(stderr=True)
    if not screen.is_terminal:
        screen = Console(width=COLUMNS)
    with tempfile.TemporaryDirectory(prefix="midstreamer-bench-") as folder:
        rows = asyncio.run(
            measure(
                Path(folder),
                arguments.carrier or ["quic", "wss"],
                lambda line: told.print(line, style="dim"),
            )
        )
    made: dict[str, Any] = {
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "agents": AGENTS,
        "rows": [_plain(each) for each in rows],
    }
    screen.print(f"{made['machine']['cpu']}, {made['machine']['cores']} cores")
    screen.print(shown(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return 0 if all(each.held for each in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
