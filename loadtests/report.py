"""What a load test came to, as a table for people and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests import tally
from loadtests.plan import Plan
from loadtests.tally import Durations, Tally

CPU = "process_cpu_seconds_total"
LATE_S = 0.05
"""Lateness of the generator (p99) from which its figures are its own."""
MEMORY = "process_resident_memory_bytes"


@dataclass
class Figures:
    """All that is known of one load test."""

    stages: list[Tally]
    sdk: Tally
    users: int
    seconds: float
    processors: float
    """That the generator kept busy itself."""
    repeats: dict[str, int]
    transport: dict[str, float | None]
    broken: list[str]
    """One line for each threshold that was not held."""
    servers: dict[str, dict[str, float]] = field(default_factory=dict)
    """What each process of the fleet spent."""
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> Tally:
        """All stages together."""
        whole = Tally()
        for each in (*self.stages, self.sdk):
            whole.merge(each)
        return whole


def read(path: Path) -> Figures:
    """What the generator has written."""
    raw = json.loads(path.read_text("utf-8"))
    return Figures(
        stages=[tally.from_plain(each) for each in raw["stages"]],
        sdk=tally.from_plain(raw["sdk"]),
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
    """What each process used between two looks at its metrics."""
    made = {}
    for name, late in after.items():
        early = before.get(name, {})
        if CPU in late and CPU in early:
            processors = (late[CPU] - early[CPU]) / max(seconds, 1e-9)
            made[name] = {"processors": processors, "bytes": late.get(MEMORY, math.nan)}
    return made


def write(figures: Figures, plan: Plan, path: Path) -> None:
    """All figures as JSON, with the percentiles spelled out."""
    whole = figures.whole
    made = figures.raw | {
        "servers": figures.servers,
        "seed": plan.seed,
        "requests": {name: row(each.latency) for name, each in sorted(whole.requests.items())},
    }
    path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def row(durations: Durations) -> dict[str, float]:
    """The percentiles that are shown, in milliseconds."""
    if not durations.count:
        return {"count": 0}
    shown = {f"p{each}": durations.percentile(each) * 1e3 for each in (50, 95, 99)}
    return {"count": durations.count, **shown, "max": durations.most_s * 1e3}


def table(figures: Figures) -> Table:
    """One row for each type of request."""
    whole = figures.whole
    made = Table(
        title=f"{figures.users} users, {figures.seconds:.0f} s",
        caption="ms from when a request should have begun to its end; 'as sent': from its sending",
    )
    for heading in ("request", "count", "1/s", "p50", "p95", "p99", "max", "p99 as sent", "failed"):
        made.add_column(heading, justify="left" if heading == "request" else "right")
    for name, each in sorted(whole.requests.items()):
        shown = row(each.latency)
        cells = [f"{shown.get(key, math.nan):,.1f}" for key in ("p50", "p95", "p99", "max")]
        as_sent = f"{each.service.percentile(99) * 1e3:,.1f}"
        failed = ", ".join(f"{count} {code}" for code, count in each.failures.items()) or "0"
        rate = f"{each.count / figures.seconds:,.1f}"
        made.add_row(name, f"{each.count:,}", rate, *cells, as_sent, failed)
    return made


def show(figures: Figures, plan: Plan, screen: Console) -> None:
    """Print everything."""
    screen.print(table(figures))
    whole, transport = figures.whole, figures.transport
    late = ", ".join(f"p{each} {whole.late.percentile(each) * 1e3:.1f} ms" for each in (50, 99))
    screen.print(f"the generator kept {figures.processors:.2f} processors busy; late: {late}")
    if whole.late.percentile(99) > LATE_S:
        screen.print(
            "the generator was late itself: what is above tells of this machine, not of the fleet;"
            " ask less, or start it on another machine",
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
    screen.print(f"attempts that were repeated: {repeats or 'none'}; seed {plan.seed}")
    for line in figures.broken:
        screen.print(f"NOT HELD: {line}", style="red", markup=False)
    if not figures.broken:
        screen.print(f"held: {', '.join(plan.thresholds)}", markup=False)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f} ms"
