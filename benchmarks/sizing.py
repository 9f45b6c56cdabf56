"""Measure memory, disk space and match time of a fleet as its history grows.

    make bench-sizing

The fleet has two agents, so that each holds the whole history.  Random walks are appended step by
step.  After each step some searches run, and then every process is measured.  Memory is the
resident memory that the kernel reports, which includes code that processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import reached
from midstreamer import AsyncClient, Specification, window
from midstreamer.cli import state_folder
from midstreamer.cli.local_fleet import LocalFleet
from midstreamer.cli.run_settings import RunSettings
from midstreamer.domain import series
from midstreamer.domain.series import Column
from midstreamer.domain.specification import Transform
from midstreamer.telemetry import logs

POINTS = (0, 500_000, 1_000_000, 2_000_000, 4_000_000)
"""Sizes of the history at which the fleet is measured, in points."""
SERIES = 20
WINDOW = 48
MATCHES = 20
MINUTE = 60_000_000
"""Microseconds between two points of a series."""


def walks(first: int, count: int, dice: np.random.Generator) -> list[Column]:
    """Return the next ``count`` points of each series, starting at index ``first``."""
    times = (np.arange(first, first + count) * MINUTE).tolist()
    return [
        series.column(f"size/s{each}", times, dice.standard_normal(count).cumsum().tolist())
        for each in range(SERIES)
    ]


def resident_mb(process: int) -> float:
    """Return the resident memory of a process in MiB, as the kernel reports it."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    (line,) = (each for each in status.splitlines() if each.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def disk_mb(folder: Path) -> float:
    """Return the disk space of all files in a folder in MB, including the database log."""
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file()) / 1e6


async def looked_at(fleet: LocalFleet, client: AsyncClient, points: int) -> dict[str, Any]:
    """Measure the fleet at its present size; return a row: memory, disk space and match time."""
    taken = []
    specification = Specification("size", window=WINDOW, horizon=4, transform=Transform.IDENTITY)
    dice = np.random.default_rng(2)
    for _ in range(MATCHES if points else 0):
        time_us = (points // SERIES - 1) * MINUTE
        asked = window(dice.standard_normal(WINDOW).cumsum(), time=time_us)
        begin_s = time.perf_counter()
        await client.match_many([asked], specification, record=False)
        taken.append(time.perf_counter() - begin_s)
    memory = {each.verb: resident_mb(each.process.pid) for each in fleet.children if each.process}
    return {
        "points": points,
        **{f"{verb}_mb": memory[verb] for verb in ("agent", "sync", "coordinator")},
        "disk_mb": disk_mb(fleet.server.data),
        "match_ms": statistics.median(taken) * 1e3 if taken else None,
    }


async def measured(folder: Path, news: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a row for each size in `POINTS`."""
    rows, held = [], 0
    dice = np.random.default_rng(1)
    with state_folder.held(folder) as kept:
        fleet = LocalFleet(kept, RunSettings(agents=2), config_file=None, news=news)
        async with fleet, AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
            agents = [child.health for child in fleet.children if child.verb == "agent"]
            for points in POINTS:
                news(f"appending points up to {points}")
                while held < points:
                    count = min(5_000, (points - held) // SERIES)
                    await client.append(walks(held // SERIES, count, dice))
                    held += count * SERIES
                await asyncio.gather(*(reached(each, client.position) for each in agents))
                rows.append(await looked_at(fleet, client, points))
        await fleet.server.erase()
    return rows


def shown(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table."""
    table = Table(title=f"{SERIES} series, windows of {WINDOW}, each agent holds all series")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*("" if value is None else f"{value:,.0f}" for value in row.values()))
    return table


def main() -> int:
    """Measure, print a table, and with ``--json`` write the rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    logs.configure(json=False, level="error")
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measured(Path(folder) / "state", console.print))
    console.print(shown(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
