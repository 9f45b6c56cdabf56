"""What a run writes: tables for people, JSON for the documents.

The JSON is one object:

``schema``
    1; rises when a field changes its meaning.
``date``, ``seconds``, ``quick``
    The day (UTC), how long it took, whether it was a quick run, whose figures are rough.
``machine``
    ``cpu``, ``cores``, ``python``, ``instruction_set`` and ``lanes`` of the kernels.
``packages``
    The version of each package measured, by its name.
``rows``
    One for each call, the fields of `measure.Row`: seconds, and why there are none.
``growth``
    The same for histories and collections of many sizes; ``answer`` has what building took and
    holds.
``gates``
    One for each gate whose task was measured, the fields of `gates.Verdict`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.kernels import npm
from benchmarks.kernels.gates import Verdict
from benchmarks.kernels.measure import Row
from midstreamer_kernels import engines

SCHEMA = 1
PYTHON_PACKAGES = (
    "numba", "numpy", "dtaidistance", "tslearn", "aeon", "wildboar", "augurs", "stumpy",
)  # fmt: skip
ASK_VERSIONS = f"""
import importlib.metadata, json
print(json.dumps({{name: importlib.metadata.version(name) for name in {PYTHON_PACKAGES!r}}}))
"""


@dataclass(frozen=True)
class Report:
    """One run."""

    machine: dict[str, Any]
    packages: dict[str, str]
    rows: list[Row]
    growth: list[Row]
    gates: list[Verdict]
    seconds: float
    quick: bool

    def json(self) -> str:
        """The whole run, for `docs.figures` and for comparing runs."""
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        made = {"schema": SCHEMA, "date": date, **asdict(self)}
        return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def machine() -> dict[str, Any]:
    """What it was measured on."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        cpu = named[0] if named else cpu
    numba = engines()[0]
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "instruction_set": numba.instruction_set,
        "lanes": numba.lanes,
    }


def packages(peers: Path, node: Path) -> dict[str, str]:
    """The versions of what is measured beside us."""

    def said(*command: str | Path) -> str:
        return subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    wanted = json.loads(npm.WANTED.read_text(encoding="utf-8"))
    archives = {f"npm {name}": each["package"].rpartition("@")[2] for name, each in wanted.items()}
    installed: dict[str, str] = json.loads(said(peers / "bin/python", "-c", ASK_VERSIONS))
    return {**installed, **archives, "node": said(node, "--version").removeprefix("v")}


def duration(seconds: float) -> str:
    """Three digits in the unit that fits."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1e3 else f"{seconds:,.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


def amount(value: float | None, unit: str) -> str:
    """A figure of a verdict in its unit."""
    if value is None:
        return "–"
    times = f"{value:.3g}" if value < 1_000 else f"{value:,.0f}"
    return {"x": f"{times}x", "%": f"{value:.0%}", "s": f"{value:.3g} s"}[unit]


def rows_table(title: str, rows: Sequence[Row]) -> Table:
    """Medians of one task, each beside the fastest of ours."""
    table = Table(title=title, title_justify="left")
    table.add_column("", min_width=36)
    for heading in ("median", "half of it between", "times ours", "answer"):
        table.add_column(heading, justify="right")
    ours = [row.median_s for row in rows if row.median_s and row.name.startswith("midstreamer")]
    for row in rows:
        if row.median_s is None or row.low_s is None or row.high_s is None:
            table.add_row(row.name, "–", "", "", "missing")
            continue
        times = f"{row.median_s / min(ours):.3g}" if ours else ""
        between = f"{duration(row.low_s)} … {duration(row.high_s)}"
        said = {True: "same", False: "DIFFERS", None: ""}[row.agrees]
        table.add_row(row.name, duration(row.median_s), between, times, said)
    return table


def growth_table(title: str, rows: Sequence[Row]) -> Table:
    """How cost grows."""
    table = Table(title=title, title_justify="left")
    table.add_column("", min_width=36)
    for heading in ("search", "built in", "bytes/point", "append"):
        table.add_column(heading, justify="right")
    for row in rows:
        if row.median_s is None:
            table.add_row(row.name, "–", "missing")
            continue
        facts = row.answer
        append = duration(facts["append_s"]) if "append_s" in facts else ""
        table.add_row(
            row.name, duration(row.median_s), duration(facts["build_s"]),
            f"{facts['bytes_per_point']:.1f}", append,
        )  # fmt: skip
    return table


def gates_table(made: Sequence[Verdict], instruction_set: str) -> Table:
    """What was asked, and what came of it."""
    table = Table(title=f"gates on {instruction_set}", title_justify="left")
    table.add_column("", min_width=48)
    for heading in ("measured", "gate", "goal", "held"):
        table.add_column(heading, justify="right")
    for each in made:
        held = {True: "yes", False: "NO", None: "–"}[each.held]
        table.add_row(
            each.title, amount(each.measured, each.unit), amount(each.gate, each.unit),
            amount(each.goal, each.unit), held,
        )  # fmt: skip
    return table
