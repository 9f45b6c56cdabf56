"""Measure what metrics and scrapes cost a request: ``make bench-telemetry``.

The metrics of the fleet's processes can be switched off and on while the processes run.  When they
are off, each operation on a metric does nothing (`benchmarks/switched`).  A block is a number of
requests of one kind, sent one after another.  Blocks run alternately with and without metrics, in
the same processes, and each block is compared with its neighbour.  A result is the median over all
pairs of neighbouring blocks, with its 95 % confidence interval.
On a busy machine the interval is wider than the cost to be measured.  Therefore the operations are
also counted by kind, and multiplied by the time of one operation on an idle machine.

Processor time is the sum over all threads of the coordinator, the sync and the agents, as the
kernel measures it.  When metrics are off, two costs remain: the reading of clocks, and the counting
of datagrams and their bytes.  The counting is timed separately.  The metrics of the client, in this
process, are never switched off.

A scrape requests OpenMetrics, as Prometheus does.  The cost of a scrape is its processor time in
seconds.  For example, a scrape of 0.002 s, once per second, takes 0.2 % of a processor.  A request
is delayed by a scrape by at most the processor time of the scrape.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import datetime
import functools
import json
import math
import os
import re
import signal
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import structs
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import BATCH, COLUMNS, DAY, SETTLE_S, Bench, machine
from midstreamer import AsyncClient, Tick
from midstreamer.cli import state_folder
from midstreamer.cli.local_fleet import LocalFleet
from midstreamer.cli.run_settings import RunSettings
from midstreamer.telemetry import logs, metrics

SWITCHED = Path(__file__).parent / "switched"
"""Folder of the module sitecustomize, which makes metrics switchable in a process."""
OFF, ON, TALLY = signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH
"""Signals to a process: disable metrics; enable them; enable them and count operations."""
TALLIED = re.compile(rb'^benchmark_operations_total\{operation="(\w+)"\} (\S+)', re.MULTILINE)
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
AGENTS = 2
PAIRS = 60
"""Default number of pairs of blocks of requests: one block with metrics, one without metrics."""
REQUESTS = {"smallest": 100, f"append of {BATCH}": 15, "match": 15}
"""Requests in a block, by kind: empty Lookups, appends of `BATCH` ticks, matches over 20 stocks."""
SWITCHING_S = 0.01
"""Seconds to wait until every process has switched metrics and earlier work has ended."""
SCRAPES = 50
"""Number of scrapes of each process."""
MOST = 0.02
"""Largest share of the time of a request that metrics may cost."""

Ask = Callable[[int], Awaitable[object]]


@dataclasses.dataclass(frozen=True)
class Block:
    """Result of a block of requests, in seconds per request.

    ``seen_s`` is the median latency, as the caller sees it.  ``processor_s`` is the mean processor
    time of the fleet.
    """

    seen_s: float
    processor_s: float


@dataclasses.dataclass(frozen=True)
class Cost:
    """Results for one kind of request.

    ``counted`` has the results of the blocks of requests that ran with metrics.  ``uncounted`` has
    the results of the blocks that ran without metrics.  Blocks of equal index ran one after the
    other and are compared.
    """

    what: str
    counted: list[Block] = dataclasses.field(default_factory=list)
    uncounted: list[Block] = dataclasses.field(default_factory=list)
    operations: dict[str, float] = dataclasses.field(default_factory=dict)
    """Operations on metrics per request, in all processes together, by kind of operation."""

    @property
    def seen_s(self) -> float:
        """Median latency of a request while metrics are off, in seconds, as the caller sees it."""
        return statistics.median(each.seen_s for each in self.uncounted)

    def operations_s(self, each_s: dict[str, float]) -> float:
        """Return the total seconds of all operations on metrics that one request causes.

        ``each_s`` has the seconds of one operation, by kind.
        """
        return sum(count * each_s[kind] for kind, count in self.operations.items())

    def added(self, of: Callable[[Block], float]) -> tuple[float, float, float]:
        """Return what metrics add to a request, as a share: the median, and its confidence limits.

        ``of`` chooses the time that is compared: latency or processor time.
        """
        pairs = zip(self.counted, self.uncounted, strict=True)
        return confident(sorted(of(with_) / of(without) - 1 for with_, without in pairs))


def confident(ordered: list[float]) -> tuple[float, float, float]:
    """Return the median of sorted values and the limits of its 95 % confidence interval."""
    middle, count = statistics.median(ordered), len(ordered)
    aside = 0.98 * math.sqrt(count)
    first = max(0, math.floor(count / 2 - aside))
    return middle, ordered[first], ordered[count - 1 - first]


@dataclasses.dataclass(frozen=True)
class Scrape:
    """Cost of a scrape of one process: processor seconds, and bytes of the answer."""

    process: str
    seconds: float
    bytes: int


# --- processes ------------------------------------------------------------------------------------


def processor_s(pid: int) -> float:
    """Return the processor seconds of all threads of a process so far."""
    spent_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            spent_ns += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return spent_ns / 1e9


def processes(bench: Bench) -> list[int]:
    """Return the ids of all processes of a fleet except PostgreSQL."""
    return [each.process.pid for each in bench.fleet.children if each.process is not None]


@contextlib.contextmanager
def first_on_the_path(folder: Path) -> Iterator[None]:
    """Put a folder first on PYTHONPATH, for processes that start within the ``with`` statement."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), before)))
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@contextlib.asynccontextmanager
async def a_bench(folder: Path, news: Callable[[str], None]) -> AsyncIterator[Bench]:
    """Run a fleet with switchable metrics and the history of twenty stocks."""
    with state_folder.held(folder) as kept, first_on_the_path(SWITCHED):
        fleet = LocalFleet(kept, RunSettings(agents=AGENTS), config_file=None, news=news)
        async with fleet, AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
            bench = Bench(fleet, client, "quic")
            await bench.load()
            yield bench
            if any(child.restarts for child in fleet.children):
                raise RuntimeError(
                    "a process restarted, so its metrics were on when they should be off: run again"
                )
        await fleet.server.erase()


async def scraped(address: str) -> bytes:
    """Scrape a process like Prometheus; return the bytes of the response with its headers."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nAccept: {ACCEPT}\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()


# --- measuring ------------------------------------------------------------------------------------


async def block(bench: Bench, ask: Ask, numbers: range, number: signal.Signals) -> Block:
    """Switch metrics with a signal, run a block of requests, and return its result."""
    for pid in processes(bench):
        os.kill(pid, number)
    await asyncio.sleep(SWITCHING_S)
    taken, before_s = [], sum(map(processor_s, processes(bench)))
    for each in numbers:
        began_s = time.perf_counter()
        await ask(each)
        taken.append(time.perf_counter() - began_s)
    spent_s = sum(map(processor_s, processes(bench))) - before_s
    return Block(statistics.median(taken), spent_s / len(numbers))


async def by_turns(bench: Bench, ask: Ask, cost: Cost, pairs: int) -> None:
    """Run pairs of blocks, one with and one without metrics, and add their results to ``cost``.

    The order within a pair alternates.  At the end one more block counts the operations on metrics.
    """
    size, at = REQUESTS[cost.what], 0
    for pair in range(-3, pairs):  # the first three pairs warm up caches and compilers
        both = [(ON, cost.counted), (OFF, cost.uncounted)]
        for number, blocks in both[::-1] if pair % 2 else both:
            made = await block(bench, ask, range(at, at + size), number)
            at += size
            if pair >= 0:
                blocks.append(made)
    before = await tallied(bench)
    await block(bench, ask, range(at, at + size), TALLY)
    for kind, count in (await tallied(bench)).items():
        cost.operations[kind] = (count - before[kind]) / size


async def tallied(bench: Bench) -> dict[str, float]:
    """Return the operations on metrics so far, by kind, of all processes together."""
    found: dict[str, float] = {}
    for child in bench.fleet.children:
        for kind, count in TALLIED.findall(await scraped(child.health)):
            found[kind.decode()] = found.get(kind.decode(), 0.0) + float(count)
    return found


async def measure(
    folder: Path, pairs: int, news: Callable[[str], None]
) -> tuple[list[Cost], list[Scrape]]:
    """Measure each kind of request, then the scrapes."""
    costs = [Cost(what) for what in REQUESTS]
    async with a_bench(folder, news) as bench, bench.round_trips() as trip:

        async def smallest(_: int) -> None:
            await trip()

        await asyncio.sleep(SETTLE_S)
        asks = (smallest, _appends(bench), _matches(bench, pairs))
        for cost, ask in zip(costs, asks, strict=True):
            news(f"measuring: {cost.what}")
            await by_turns(bench, ask, cost, pairs)
        for pid in processes(bench):
            os.kill(pid, ON)
        return costs, await scrapes(bench)


def _appends(bench: Bench) -> Ask:
    async def ask(number: int) -> None:
        await bench.client.append(
            [Tick(f"batch/s{each}", number * DAY, float(number)) for each in range(BATCH)]
        )

    return ask


def _matches(bench: Bench, pairs: int) -> Ask:
    specification = structs.replace(bench.specification, grid=8)
    made = list(bench.windows(2 * (pairs + 3) * max(REQUESTS.values()), specification))

    async def ask(number: int) -> None:
        await bench.client.match_many([made[number]], specification, record=False)

    return ask


async def scrapes(bench: Bench) -> list[Scrape]:
    """Return the cost of a scrape of each process, including the connection."""
    made = []
    for child in bench.fleet.children:
        assert child.process is not None
        size = len(await scraped(child.health))
        before_s = processor_s(child.process.pid)
        for _ in range(SCRAPES):
            await scraped(child.health)
        spent_s = (processor_s(child.process.pid) - before_s) / SCRAPES
        made.append(Scrape(child.name, spent_s, size))
    return made


def operations_s() -> dict[str, float]:
    """Return the seconds that one operation of each kind takes in this process."""
    acts: dict[str, Callable[[], object]] = {
        "inc": functools.partial(metrics.KERNEL_BUSY_S.inc, 0.1),
        "dec": metrics.KERNEL_THREADS.dec,
        "set": functools.partial(metrics.FEED_POSITION.set, 1),
        "observe": functools.partial(metrics.LOOP_LAG_S.observe, 0.01),
        "labels": functools.partial(metrics.COMMITS.labels, "committed"),
    }
    count = 100_000
    return {
        kind: min(timeit.repeat(act, number=count, repeat=5)) / count for kind, act in acts.items()
    }


def additions_s() -> float:
    """Return the seconds that it takes to count a datagram and to add its size to a sum."""
    setup = "class T: pass\nt = T(); t.datagrams = t.bytes = 0; data = bytes(100)"
    count = 1_000_000
    return (
        min(timeit.repeat("t.datagrams += 1; t.bytes += len(data)", setup, number=count, repeat=5))
        / count
    )


# --- printing -------------------------------------------------------------------------------------


def _told(added: tuple[float, float, float]) -> str:
    middle, low, high = added
    return f"{middle:+.1%} ({low:+.1%}..{high:+.1%})"


def shown(costs: list[Cost], scrapings: list[Scrape], each_s: dict[str, float]) -> list[Table]:
    """Return two tables for people: costs of requests, and costs of scrapes."""
    requests = Table(
        title="What metrics add to a request",
        caption=f"medians of {len(costs[0].counted)} pairs of blocks with 95 % confidence"
        f" intervals; the additions for a datagram take {additions_s() * 1e9:.0f} ns in addition",
    )
    headings = ("", "ms", "metrics add", "processor ms", "metrics add", "operations", "take")
    for heading in headings:
        requests.add_column(heading, justify="right" if heading else "left")
    for cost in costs:
        took_s, operations = cost.operations_s(each_s), sum(cost.operations.values())
        spent = statistics.median(each.processor_s for each in cost.uncounted)
        requests.add_row(
            *(cost.what, f"{cost.seen_s * 1e3:.2f}", _told(cost.added(lambda each: each.seen_s))),
            *(f"{spent * 1e3:.2f}", _told(cost.added(lambda each: each.processor_s))),
            *(f"{operations:.0f}", f"{took_s * 1e6:.0f} µs = {took_s / cost.seen_s:.2%}"),
        )
    each = Table(title="What one scrape takes")
    for heading in ("process", "processor ms", "of a processor, at 1 Hz", "KiB"):
        each.add_column(heading, justify="left" if heading == "process" else "right")
    for one in scrapings:
        each.add_row(
            *(one.process, f"{one.seconds * 1e3:.2f}", f"{one.seconds:.2%}"),
            f"{one.bytes / 1024:.0f}",
        )
    return [requests, each]


def held(costs: list[Cost], each_s: dict[str, float]) -> bool:
    """Return whether metrics cost less than `MOST` of the latency of each kind of request.

    Both estimates must be below `MOST`: the time of the operations on metrics, and the lower
    confidence limit of the difference between blocks with and without metrics.
    """
    return all(
        cost.operations_s(each_s) < MOST * cost.seen_s
        and cost.added(lambda each: each.seen_s)[1] < MOST
        for cost in costs
    )


def main() -> int:
    """Measure and print; return 1 if metrics cost more than `MOST`."""
    parser = argparse.ArgumentParser(prog="make bench-telemetry", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="number of pairs of blocks")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    logs.configure(json=False, level="error")
    screen, told = Console(), Console(stderr=True)
    if not screen.is_terminal:
        screen = Console(width=COLUMNS)

    def news(line: str) -> None:
        told.print(line, style="dim")

    with tempfile.TemporaryDirectory(prefix="midstreamer-bench-") as folder:
        costs, scrapings = asyncio.run(measure(Path(folder), arguments.pairs, news))
    each_s = operations_s()
    for table in shown(costs, scrapings, each_s):
        screen.print(table)
    if arguments.json:
        made: dict[str, Any] = {
            "machine": machine(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "requests": [dataclasses.asdict(cost) for cost in costs],
            "scrapes": [dataclasses.asdict(one) for one in scrapings],
        }
        arguments.json.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return 0 if held(costs, each_s) else 1


if __name__ == "__main__":
    sys.exit(main())
