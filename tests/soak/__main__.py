"""`make soak`: run a well-behaved client next to one flood after another.

    python -m tests.soak                  20 minutes
    python -m tests.soak --minutes 3      a short run
    python -m tests.soak --only nested    one flood

A local fleet of processes runs, and a client appends durably and matches a few times a second. The
first phase, without a flood, gives the baseline. Then each flood in turn uses half a core. The
table shows for each phase the client's latencies, its failed requests, and each process's memory
with its slope. The exit code is 0 when no request failed, no flood made the p99 latency more than
four times as long, and memory stayed flat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import machine
from midstreamer import AsyncClient, Specification, Tick
from midstreamer.cli import peer_credentials, state_folder
from midstreamer.cli.local_fleet import TRUST_DOMAIN, LocalFleet
from midstreamer.cli.run_settings import RunSettings
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.specification import Scale, Transform
from midstreamer.telemetry import logs
from tests.soak.floods import FLOODS, IDENTITY

MINUTES = 20.0
QUIET_SHARE = 0.15
"""Share of the run in which there is no flood: half of it at the start, half of it at the end."""
PERIOD_S = 0.2
SERIES = 10
HISTORY = 2000
SLOWER_MAX = 4.0
GROWTH_MB_MAX = 64.0
"""Maximum growth of a process in MB, between the ends of the first and the last quiet phase."""
SAMPLE_S = 1.0
HOUR = 3_600_000_000
WANTED = Specification(
    "good",
    window=24,
    horizon=4,
    neighbours=30,
    grid=4,
    transform=Transform.IDENTITY,
    scale=Scale.DEVIATION,
)


@dataclass
class Phase:
    """The measurements of one phase, with a flood or without."""

    name: str
    latencies_s: dict[str, list[float]] = field(default_factory=lambda: {"append": [], "match": []})
    failures: list[str] = field(default_factory=list)
    memory_mb: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Samples of each process: (seconds, resident megabytes)."""
    flood: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def percentile_ms(self, what: str, q: float) -> float:
        """Return a percentile of one kind of request, in milliseconds; infinite for no requests."""
        taken = self.latencies_s[what]
        return float(np.percentile(taken, q)) * 1e3 if taken else float("inf")

    def slope_mb_per_minute(self, process: str) -> float:
        """Return the slope of a process's memory, by least squares over the phase's second half."""
        samples = self.memory_mb.get(process, [])
        late = samples[len(samples) // 2 :]
        if len(late) < 3:
            return 0.0
        at, size = np.asarray(late).T
        return float(np.polyfit(at, size, 1)[0]) * 60.0

    def last_mb(self, process: str) -> float:
        """Return the resident memory of a process at the end of the phase, in megabytes."""
        samples = self.memory_mb.get(process, [])
        return samples[-1][1] if samples else 0.0


class Good:
    """The well-behaved client: in each period it sends one append and one match, and times both."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        dice = np.random.default_rng(1)
        steps = np.arange(HISTORY * 100)
        self._values = 10 + np.sin(steps / 4) + dice.standard_normal(len(steps)) * 0.1
        self._at = HISTORY

    async def begin(self) -> None:
        """Append the history in which the windows of later matches find analogs."""
        for number in range(SERIES):
            ticks = [self._tick(number, at) for at in range(HISTORY)]
            await self._client.append(ticks)

    async def run(self, phase: Phase, seconds: float) -> None:
        """Send requests for some seconds; a failed request does not stop the client."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + seconds
        while loop.time() < until_s:
            began_s = loop.time()
            await self._timed(phase, "append", self._append)
            await self._timed(phase, "match", self._match)
            self._at += 1
            await asyncio.sleep(max(0.0, PERIOD_S - (loop.time() - began_s)))

    async def _append(self) -> None:
        await self._client.append([self._tick(number, self._at) for number in range(SERIES)])

    async def _match(self) -> None:
        number = self._at % SERIES
        values = self._values[self._at - WANTED.window + 1 + number : self._at + 1 + number]
        await self._client.match(f"good/s{number}", self._at * HOUR, values, WANTED)

    async def _timed(self, phase: Phase, what: str, ask: Callable[[], Any]) -> None:
        began_s = time.perf_counter()
        try:
            await ask()
        except MidstreamerError as error:
            phase.failures.append(f"{what}: {error.code}: {error}")
        phase.latencies_s[what].append(time.perf_counter() - began_s)

    def _tick(self, number: int, at: int) -> Tick:
        return Tick(f"good/s{number}", at * HOUR, float(self._values[at + number]))


async def watch_memory(fleet: LocalFleet, phase: Phase) -> None:
    """Sample the memory of every process until cancelled."""
    began_s = time.monotonic()
    while True:
        for child in fleet.children:
            if child.process is not None:
                size = resident_mb(child.process.pid)
                at = time.monotonic() - began_s
                phase.memory_mb.setdefault(child.name, []).append((at, size))
        await asyncio.sleep(SAMPLE_S)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in megabytes; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    sizes = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return sizes[0] / 1024 if sizes else 0.0


@asynccontextmanager
async def flooding(
    kind: str, fleet: LocalFleet, seconds: float, phase: Phase
) -> AsyncIterator[None]:
    """Run a flood in its own process during the block, then keep the flood's figures."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.floods", kind, fleet.coordinator),
        *(str(fleet.state.certs), str(seconds)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield
        out, wrong = await asyncio.wait_for(process.communicate(), 30.0)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"flood {kind} failed:\n{wrong.decode()}")
    phase.flood = json.loads(out.splitlines()[-1])


async def soak(folder: Path, names: list[str], minutes: float, screen: Console) -> list[Phase]:
    """Start a fleet, run all phases, and stop the fleet; return the phases."""
    quiet_s = max(10.0, minutes * 60 * QUIET_SHARE / 2)
    flood_s = max(10.0, (minutes * 60 - 2 * quiet_s) / len(names))
    phases: list[Phase] = []
    with state_folder.held(folder) as kept:
        fleet = LocalFleet(kept, RunSettings(), config_file=None, news=screen.print)
        async with fleet, AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
            flooder = peer_credentials.named(IDENTITY, TRUST_DOMAIN)
            await asyncio.to_thread(peer_credentials.prepare, kept.certs, [flooder])
            good = Good(client)
            await good.begin()
            await good.run(Phase("warm-up"), 5.0)
            for name in ["quiet", *names, "quiet again"]:
                phase = Phase(name, seconds=flood_s if name in FLOODS else quiet_s)
                await _phase(fleet, good, phase)
                phases.append(phase)
                screen.print(line(phase, phases[0]))
        await fleet.server.erase()
    return phases


async def _phase(fleet: LocalFleet, good: Good, phase: Phase) -> None:
    watching = asyncio.create_task(watch_memory(fleet, phase))
    try:
        if phase.name in FLOODS:
            async with flooding(phase.name, fleet, phase.seconds, phase):
                await good.run(phase, phase.seconds)
        else:
            await good.run(phase, phase.seconds)
    finally:
        watching.cancel()
    restarts = {child.name: child.restarts for child in fleet.children if child.restarts}
    if restarts:
        phase.failures.append(f"processes that ended and were restarted: {restarts}")


def line(phase: Phase, quiet: Phase) -> str:
    """Return one phase as one line of text, printed while the run goes on."""
    ratios = [
        phase.percentile_ms(what, 99) / quiet.percentile_ms(what, 99)
        for what in ("append", "match")
    ]
    return (
        f"{phase.name}: {phase.seconds:.0f} s, p99 × {ratios[0]:.1f} append, × {ratios[1]:.1f}"
        f" match, {len(phase.failures)} failed"
    )


def verdicts(phases: list[Phase]) -> list[str]:
    """Return the promises of the soak test that did not hold; empty when all hold."""
    quiet, last = phases[0], phases[-1]
    wrong = []
    for phase in phases:
        wrong += [f"{phase.name}: {failure}" for failure in phase.failures[:3]]
        for what in ("append", "match"):
            ratio = phase.percentile_ms(what, 99) / quiet.percentile_ms(what, 99)
            if ratio > SLOWER_MAX:
                wrong.append(f"{phase.name}: p99 of {what} is {ratio:.1f} × the quiet one")
    for process in quiet.memory_mb:
        grown = last.last_mb(process) - quiet.last_mb(process)
        if grown > GROWTH_MB_MAX:
            wrong.append(f"{process} grew by {grown:.0f} MB, at most {GROWTH_MB_MAX:.0f}")
    return wrong


def shown(phases: list[Phase]) -> Table:
    """Return all phases as a table to print."""
    table = Table(title="A well-behaved client beside floods of half a core")
    processes = ["coordinator", "sync", "agent-1"]
    for heading in ("", "flood 1/s", "core", "append p50/p99 ms", "match p50/p99 ms", "failed"):
        table.add_column(heading, justify="right" if heading else "left")
    for process in processes:
        table.add_column(f"{process} MB (MB/min)", justify="right")
    for phase in phases:
        rate = f"{phase.flood['steps'] / phase.seconds:,.0f}" if phase.flood else ""
        cells = [phase.name, rate, str(phase.flood.get("core", ""))]
        for what in ("append", "match"):
            p50, p99 = (phase.percentile_ms(what, q) for q in (50, 99))
            cells.append(f"{p50:.1f} / {p99:.1f}")
        cells.append(str(len(phase.failures)))
        for process in processes:
            slope = phase.slope_mb_per_minute(process)
            cells.append(f"{phase.last_mb(process):.0f} ({slope:+.1f})")
        table.add_row(*cells)
    return table


def main() -> int:
    """Run the soak test, print the table, and return 1 when a promise is broken."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--only", action="append", choices=sorted(FLOODS))
    asked = parser.parse_args()
    logs.configure(json=False, level="error")
    screen = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="midstreamer-soak-") as folder:
        names = asked.only or list(FLOODS)
        phases = asyncio.run(soak(Path(folder), names, asked.minutes, screen))
    screen.print(f"{machine()['cpu']}, {machine()['cores']} cores")
    screen.print(shown(phases))
    wrong = verdicts(phases)
    for each in wrong:
        screen.print(f"does not hold: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped before the end: no result")
