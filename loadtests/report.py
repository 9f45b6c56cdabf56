"""The results of a load test, as a table for people and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests import result_counts
from loadtests.load_plan import Plan
from loadtests.result_counts import Durations, Tally

CPU = "process_cpu_seconds_total"
"""Name of the metric of a process's processor time, in seconds."""
LATE_S = 0.05
"""Limit in seconds for the p99 of the delays with which the generator sends requests.

Above it the generator was too slow, and the results do not describe the fleet.
"""
MEMORY = "process_resident_memory_bytes"
"""Name of the metric of a process's resident memory, in bytes."""


@dataclass
class Figures:
    """All results of one load test."""

    stages: list[Tally]
    sdk: Tally
    users: int
    seconds: float
    processors: float
    """Mean number of processors that the generator kept busy."""
    repeats: dict[str, int]
    transport: dict[str, float | None]
    broken: list[str]
    """One line for each exceeded threshold."""
    servers: dict[str, dict[str, float]] = field(default_factory=dict)
    """For each process of the fleet, by name: the processors it kept busy, and its memory."""
    raw: dict[str, Any] = field(default_factory=dict)
    """The results as the generator wrote them."""

    @property
    def whole(self) -> Tally:
        """The results of all stages and of the SDK user, merged into one tally."""
        total = Tally()
        for each in (*self.stages, self.sdk):
            total.merge(each)
        return total


def read(path: Path) -> Figures:
    """Return the results in the file that the generator wrote."""
    raw = json.loads(path.read_text("utf-8"))
    return Figures(
        stages=[result_counts.from_plain(each) for each in raw["stages"]],
        sdk=result_counts.from_plain(raw["sdk"]),
        users=raw["users"],
        seconds=raw["seconds"],
        processors=raw["processors"],
        repeats=raw["repeats"],
        transport=raw["transport"],
        broken=raw["broken"],
        raw=raw,
    )


def spent(
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
    seconds: float,
) -> dict[str, dict[str, float]]:
    """Return how many processors and how many bytes of memory each process used.

    ``before`` and ``after`` are two scrapes of the metrics of all processes. ``seconds`` is the
    time between the scrapes.
    """
    used = {}
    for name, late in after.items():
        early = before.get(name, {})
        if CPU in late and CPU in early:
            processors = (late[CPU] - early[CPU]) / max(seconds, 1e-9)
            used[name] = {"processors": processors, "bytes": late.get(MEMORY, math.nan)}
    return used


def write(figures: Figures, plan: Plan, path: Path) -> None:
    """Write all results and the percentiles of each type of request to a JSON file."""
    total = figures.whole
    content = figures.raw | {
        "servers": figures.servers,
        "seed": plan.seed,
        "requests": {name: row(each.latency) for name, each in sorted(total.requests.items())},
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def row(durations: Durations) -> dict[str, float]:
    """Return the count of durations, and their p50, p95, p99 and maximum in milliseconds."""
    if not durations.count:
        return {"count": 0}
    shown = {f"p{each}": durations.percentile(each) * 1e3 for each in (50, 95, 99)}
    return {"count": durations.count, **shown, "max": durations.most_s * 1e3}


def table(figures: Figures) -> Table:
    """Return a table with a row for each type of request."""
    total = figures.whole
    result = Table(
        title=f"{figures.users} users, {figures.seconds:.0f} s",
        caption="ms from the planned start of a request to its end; 'as sent': from its sending",
    )
    for heading in ("request", "count", "1/s", "p50", "p95", "p99", "max", "p99 as sent", "failed"):
        result.add_column(heading, justify="left" if heading == "request" else "right")
    for name, each in sorted(total.requests.items()):
        shown = row(each.latency)
        cells = [f"{shown.get(key, math.nan):,.1f}" for key in ("p50", "p95", "p99", "max")]
        as_sent = f"{each.service.percentile(99) * 1e3:,.1f}"
        failed = ", ".join(f"{count} {code}" for code, count in each.failures.items()) or "0"
        rate = f"{each.count / figures.seconds:,.1f}"
        result.add_row(name, f"{each.count:,}", rate, *cells, as_sent, failed)
    return result


def show(figures: Figures, plan: Plan, screen: Console) -> None:
    """Print the results, and whether the thresholds were met."""
    screen.print(table(figures))
    total, transport = figures.whole, figures.transport
    late = ", ".join(f"p{each} {total.late.percentile(each) * 1e3:.1f} ms" for each in (50, 99))
    screen.print(
        f"the generator kept {figures.processors:.2f} processors busy; delay of requests: {late}"
    )
    if total.late.percentile(99) > LATE_S:
        screen.print(
            "the generator was too slow: the results describe this machine, not the fleet; lower"
            " the rate, or run the generator on another machine",
            style="yellow",
        )
    if transport["links"]:
        screen.print(
            f"transport of {transport['links']} links: rtt p50 {_ms(transport['rtt_p50_s'])}, p99"
            f" {_ms(transport['rtt_p99_s'])}; {transport['lost_packets']} packets lost;"
            f" congestion window p50 {(transport['window_p50_bytes'] or 0) / 1e3:.0f} kB"
        )
    for name, each in figures.servers.items():
        screen.print(
            f"{name}: {each['processors']:.2f} processors, {each['bytes'] / 1e6:.0f} MB",
            highlight=False,
        )
    repeats = ", ".join(f"{count} {code}" for code, count in figures.repeats.items())
    screen.print(f"retried attempts: {repeats or 'none'}; seed {plan.seed}")
    for line in figures.broken:
        screen.print(f"EXCEEDED: {line}", style="red", markup=False)
    if not figures.broken:
        screen.print(f"thresholds met: {', '.join(plan.thresholds)}", markup=False)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f} ms"
