"""The output of a run: tables for people, and JSON for the documentation.

The JSON is one object:

``schema``
    1; it is incremented when the meaning of a field changes.
``date``, ``seconds``, ``quick``
    The day (UTC), the duration, and whether it was a quick run with rough results.
``machine``
    ``cpu``, ``cores``, ``python``, ``instruction_set`` and ``lanes`` of the kernels.
``packages``
    The version of each package measured, by its name.
``rows``
    One for each call, with the fields of `measure.Row`.
``growth``
    Rows for histories and collections of many sizes, with the fields of `measure.Row`.  Their field
    ``answer`` has the build time and the memory, because the calls in `growth` return these.
``gates``
    One for each gate whose task was measured, with the fields of `gates.Verdict`.
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

from benchmarks.kernels import rival_packages
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
    """All results of a run."""

    machine: dict[str, Any]
    packages: dict[str, str]
    rows: list[Row]
    growth: list[Row]
    gates: list[Verdict]
    seconds: float
    quick: bool

    def json(self) -> str:
        """Return the run as JSON text, for `tools.docs.measured_figures` and for comparing runs."""
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        made = {"schema": SCHEMA, "date": date, **asdict(self)}
        return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def machine() -> dict[str, Any]:
    """Return the processor, the cores, the version of Python and the instruction set."""
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
    """Return the versions of the other packages and of node."""

    def said(*command: str | Path) -> str:
        return subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    wanted = json.loads(rival_packages.WANTED.read_text(encoding="utf-8"))
    archives = {f"npm {name}": each["package"].rpartition("@")[2] for name, each in wanted.items()}
    installed: dict[str, str] = json.loads(said(peers / "bin/python", "-c", ASK_VERSIONS))
    return {**installed, **archives, "node": said(node, "--version").removeprefix("v")}


def duration(seconds: float) -> str:
    """Return a duration with three digits in a suitable unit."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1e3 else f"{seconds:,.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


def amount(value: float | None, unit: str) -> str:
    """Return a measured value, or the value to reach, as text with its unit; a dash for None."""
    if value is None:
        return "–"
    times = f"{value:.3g}" if value < 1_000 else f"{value:,.0f}"
    return {"x": f"{times}x", "%": f"{value:.0%}", "s": f"{value:.3g} s"}[unit]


def rows_table(title: str, rows: Sequence[Row]) -> Table:
    """Return a table of the medians of a task, with their ratios to our fastest call."""
    table = Table(title=title, title_justify="left")
    table.add_column("", min_width=36)
    for heading in ("median", "quartiles", "times ours", "answer"):
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
    """Return a table of the time and memory that histories or collections of each size take."""
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
    """Return the table of the gates (values that the kernels must reach) and their results."""
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
