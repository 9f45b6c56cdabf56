"""Measure what traces cost a request: with traces off, and with traces of 1 % and 100 % of
requests.

    make bench-traces

Three fleets run at the same time; they differ only in their settings of traces.  They get requests
alternately, so that other work on the machine affects all of them.  A collector that discards all
spans runs in its own process on the same machine.  The processor time of each fleet is shown too,
because it depends less on other work of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import machine
from benchmarks.telemetry import processor_s
from midstreamer import AsyncClient, Specification, Tick
from midstreamer.cli import state_folder
from midstreamer.cli.local_fleet import LocalFleet, free_ports
from midstreamer.cli.run_settings import RunSettings
from midstreamer.domain.specification import Transform
from midstreamer.telemetry import logs

ROUNDS = 30
REQUESTS = 20
"""Requests of one kind that each fleet gets in a round."""
POINTS = 4000
"""Points of the history."""
HOUR = 3_600_000_000
WANTED = Specification(
    "bench", window=32, horizon=4, neighbours=16, band=3, grid=4, transform=Transform.IDENTITY
)
KINDS = ("COORDINATOR", "AGENT", "SYNC")


@dataclass
class Arm:
    """One of the compared fleets, and the times of its requests."""

    name: str
    ratio: float | None
    """Share of the traces that the fleet keeps; None means that traces are off."""
    client: AsyncClient | None = None
    taken: dict[str, list[list[float]]] = field(default_factory=dict)
    """Durations of requests in seconds: by kind of request, a list for each round."""
    ticks: int = POINTS
    processes: list[int] = field(default_factory=list)
    """Process ids of the fleet, without PostgreSQL."""
    processor_s: dict[str, float] = field(default_factory=dict)
    """Processor seconds that the fleet's processes used, by kind of request."""

    def environment(self, endpoint: str) -> dict[str, str]:
        """Return the environment variables that configure the traces of the fleet."""
        if self.ratio is None:
            return {}
        told = {"TRACES": "otlp", "TRACES_ENDPOINT": endpoint, "TRACES_RATIO": str(self.ratio)}
        return {
            f"MIDSTREAMER_{kind}__TELEMETRY__{key}": value
            for kind in KINDS
            for key, value in told.items()
        }

    async def match(self) -> None:
        """Send a match with one window of the history."""
        assert self.client is not None
        values = VALUES[POINTS - WANTED.window : POINTS]
        await self.client.match("bench/a", POINTS * HOUR, values, WANTED, record=False)

    async def append(self) -> None:
        """Append one tick and wait for its commit."""
        assert self.client is not None
        self.ticks += 1
        await self.client.append([Tick("other/a", self.ticks * HOUR, 1.0)])

    async def survey(self) -> None:
        """Send the smallest request: the list of members. No shard is searched for it."""
        assert self.client is not None
        await self.client.members()


VALUES = 100.0 + np.random.default_rng(1).standard_normal(POINTS).cumsum()
ASKED: dict[str, Callable[[Arm], Awaitable[None]]] = {
    "match": Arm.match,
    "append": Arm.append,
    "survey": Arm.survey,
}


def sink(port: int) -> None:
    """Serve a collector that accepts and discards every POST."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


@contextlib.contextmanager
def collecting() -> Iterator[str]:
    """Run the collector in its own process; yield its address."""
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.traces", "--sink", str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextlib.asynccontextmanager
async def running(arm: Arm, folder: Path, endpoint: str) -> AsyncIterator[Arm]:
    """Run one of the compared fleets, with its history stored."""
    told = arm.environment(endpoint)
    os.environ.update(told)
    try:
        with state_folder.held(folder / arm.name.replace(" ", "")) as kept:
            fleet = LocalFleet(kept, RunSettings(agents=2), config_file=None, news=lambda _: None)
            async with fleet, AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
                for key in told:
                    del os.environ[key]
                arm.client = client
                arm.processes = [child.process.pid for child in fleet.children if child.process]
                times = range(1, POINTS + 1)
                ticks = [Tick("bench/a", at * HOUR, float(VALUES[at - 1])) for at in times]
                await client.append(ticks)
                yield arm
            await fleet.server.erase()
    finally:
        for key in told:
            os.environ.pop(key, None)


async def turns(arms: Sequence[Arm], what: str, *, count: bool) -> None:
    """Send `REQUESTS` requests of one kind to each fleet in turn; record times if ``count``."""
    before = [sum(map(processor_s, arm.processes)) for arm in arms]
    for arm in arms:
        taken = []
        for _ in range(REQUESTS):
            begin_s = time.perf_counter()
            await ASKED[what](arm)
            taken.append(time.perf_counter() - begin_s)
        if count:
            arm.taken.setdefault(what, []).append(taken)
    for arm, began_s in zip(arms, before, strict=True):
        took_s = sum(map(processor_s, arm.processes)) - began_s
        arm.processor_s[what] = arm.processor_s.get(what, 0.0) + count * took_s


async def measure(folder: Path, rounds: int, news: Callable[[str], None]) -> list[Arm]:
    """Run all fleets, and send requests to them alternately; the first round is a warm-up."""
    arms = [Arm("off", None), Arm("1 %", 0.01), Arm("100 %", 1.0)]
    with collecting() as endpoint:
        async with contextlib.AsyncExitStack() as stack:
            for arm in arms:
                news(f"starting a fleet with traces: {arm.name}")
                await stack.enter_async_context(running(arm, folder, endpoint))
            for at in range(rounds + 1):
                news(f"round {at} of {rounds}")
                for what in ASKED:
                    await turns(arms[at % len(arms) :] + arms[: at % len(arms)], what, count=at > 0)
    return arms


def figures(arms: list[Arm]) -> list[dict[str, Any]]:
    """Return a row for each kind of request and each fleet.

    ``to_off`` is p50 divided by the p50 without traces in the same round (median over the rounds).
    ``to_off_half`` has the lower and the upper quartile of these ratios.
    """
    rows = []
    for what in ASKED:
        off = [statistics.median(each) for each in arms[0].taken[what]]
        for arm in arms:
            medians = [statistics.median(each) for each in arm.taken[what]]
            everything = sorted(seconds for each in arm.taken[what] for seconds in each)
            ratios = np.array(medians) / np.array(off)
            low, middle, high = (float(each) for each in np.percentile(ratios, (25, 50, 75)))
            rows.append(
                {
                    "request": what,
                    "traces": arm.name,
                    "p50_ms": 1e3 * statistics.median(everything),
                    "p99_ms": 1e3 * everything[int(0.99 * len(everything))],
                    "to_off": middle,
                    "to_off_half": [low, high],
                    "processor_ms": 1e3 * arm.processor_s[what] / len(everything),
                }
            )
    return rows


def shown(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table."""
    heads = (
        "request",
        "traces",
        "p50 ms",
        "p99 ms",
        "p50 to off",
        "half of rounds",
        "processor ms",
    )
    table = Table(*heads)
    for row in rows:
        low, high = row["to_off_half"]
        table.add_row(
            row["request"],
            row["traces"],
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['to_off']:.3f}",
            f"{low:.2f}-{high:.2f}",
            f"{row['processor_ms']:.2f}",
        )
    return table


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.traces")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--sink", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sink:
        return sink(arguments.sink)
    logs.configure(json=False, level="error")
    console = Console()
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        arms = asyncio.run(measure(Path(folder), arguments.rounds, status.update))
    rows = figures(arms)
    console.print(shown(rows))
    if arguments.json:
        content = {"machine": machine(), "figures": rows}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    return None


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
