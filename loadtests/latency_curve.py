"""Measure latency at several rates of requests, and find the highest rate with low latency.

All rates are measured in several sweeps, and the result of a rate is the median over the sweeps.
Other work on the machine may disturb a few seconds, but rarely the same rate in every sweep.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests import load_plan
from loadtests.report import Figures
from loadtests.result_counts import Durations, Tally
from loadtests.start_times import Stage, steady
from midstreamer.domain.errors import BadInput

IDLE_S, STEP_S, REST_S = 12.0, 6.0, 3.0
"""Seconds: to measure the first rate; to measure each other rate; to pause after each rate."""
SWEEPS = 3
"""Number of sweeps; each sweep measures all rates once."""
RATES: dict[str, tuple[float, ...]] = {
    "match": (5, 20, 40, 60, 80, 100, 130, 160, 200),
    "lookup": (20, 200, 600, 1000, 1400, 1800, 2200, 2600),
}
"""By type of request, the rates to measure, in requests per second.

The first is so low that the fleet is almost idle.
"""
TIMES = 2.0
"""A rate is sustained if its p99 latency is at most this multiple of the p99 at the first rate."""


def asked(mix: str | None) -> str:
    """Return the type of request to measure; raise BadInput for a type without `RATES`."""
    name = next(iter(load_plan.mix_of(mix))) if mix else "match"
    if name not in RATES:
        raise BadInput(f"curve cannot measure {name}: give --mix match=1 or --mix lookup=1")
    return name


def shape(arguments: argparse.Namespace) -> load_plan.Shape:
    """Return a shape with a stage for each rate, each followed by a pause that empties the queues.

    The function also changes ``arguments``: the load has one type of request and no SDK user. If no
    thresholds were given, any number of requests may fail.
    """
    arguments.mix = f"{asked(arguments.mix)}=1"
    arguments.threshold = arguments.threshold or ["failures<=100%"]
    arguments.no_sdk = True
    stages: list[Stage] = []
    for number, rate in enumerate(RATES[asked(arguments.mix)]):
        stages += [steady(IDLE_S if number == 0 else STEP_S, rate), steady(REST_S, 0)]
    return load_plan.Shape(tuple(stages) * SWEEPS, users=arguments.users or 300)


def points(stages: tuple[Stage, ...], tallies: list[Tally], name: str) -> list[dict[str, float]]:
    """Return a point of the curve for each rate.

    Each sweep measured every rate once. A point has three medians over the sweeps: of the p50
    latency, of the p99 latency, and of the p99 of the delays with which requests were sent. It also
    has the numbers of requests and of failures, summed over the sweeps.
    """
    swept: dict[float, list[Tally]] = {}
    for stage, tally in zip(stages, tallies, strict=True):
        if stage.begin > 0 and name in tally.requests:
            swept.setdefault(stage.begin, []).append(tally)
    return [{"rate": rate, **_point(several, name)} for rate, several in swept.items()]


def _point(several: list[Tally], name: str) -> dict[str, float]:
    measured = [each.requests[name] for each in several]

    def median_ms(durations: Iterable[Durations], percent: int) -> float:
        return statistics.median(each.percentile(percent) for each in durations) * 1e3

    return {
        "p50_ms": median_ms((each.latency for each in measured), 50),
        "p99_ms": median_ms((each.latency for each in measured), 99),
        "late_p99_ms": median_ms((each.late for each in several), 99),
        "count": sum(each.count for each in measured),
        "failed": sum(each.failures.total() for each in measured),
    }


def borne(made: list[dict[str, float]]) -> float:
    """Return the highest rate up to which all rates are sustained (see `TIMES`); NaN if none is."""
    best = math.nan
    for point in made:
        if point["failed"] or not point["p99_ms"] <= TIMES * made[0]["p99_ms"]:
            break
        best = point["rate"]
    return best


def show(figures: Figures, made: load_plan.Plan, screen: Console, chart: Path | None) -> int:
    """Print the curve as a table, and draw it into ``chart`` if given; return 0."""
    name = next(iter(made.mix))
    found = points(made.shape.stages, figures.stages, name)
    table = Table(
        title=f"{name}: {figures.users} users",
        caption=f"ms from the planned start to the answer; medians of {SWEEPS} sweeps",
    )
    for heading in ("1/s", "p50", "p99", "generator late p99", "count", "failed"):
        table.add_column(heading, justify="right")
    for point in found:
        times = (f"{point[key]:,.1f}" for key in ("p50_ms", "p99_ms", "late_p99_ms"))
        table.add_row(
            f"{point['rate']:g}", *times, f"{point['count']:,}", f"{point['failed']:,}"
        )  # fmt: skip
    screen.print(table)
    screen.print(
        f"highest rate whose p99 is at most {TIMES:g} times the p99 of an idle fleet:"
        f" {borne(found):g}/s; the generator kept {figures.processors:.2f} processors busy"
    )
    for process, each in figures.servers.items():
        screen.print(f"{process}: {each['processors']:.2f} processors", highlight=False)
    if chart:
        from tools.docs.pictures.latency import drawn

        chart.write_text(drawn(name, found, TIMES * found[0]["p99_ms"]), encoding="utf-8")
    return 0
