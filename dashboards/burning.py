"""Alerts on how fast a budget of errors burns: over two windows each, and with enough requests.

A burn rate of 1 spends the budget in exactly its thirty days.  The long window says that it is no
blip, the short one that it still burns, so that the alert ends soon after its cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dashboards import promql, recordings
from dashboards.cases import fires, of, silent
from dashboards.recordings import AVAILABILITY, LATENCY
from dashboards.rules import PAGE, TICKET, Alert, Grows, Pace, Values, increase
from dashboards.series import SLI_ERROR
from midstreamer.telemetry import metrics, words

REQUESTS_MIN = 100
"""Requests within the long window; of fewer, one failure would be a large share."""


class Windows(NamedTuple):
    """When it burns: faster than ``rate`` over both windows."""

    short: str
    long: str
    rate: float


PAGES = (Windows("5m", "1h", 14.4), Windows("30m", "6h", 6.0))
"""2 % of the budget within an hour, or 5 % within six."""
TICKETS = (Windows("2h", "1d", 3.0), Windows("6h", "3d", 1.0))
"""10 % of it within a day, or within three."""


class Urgency(NamedTuple):
    """Who hears of a budget that burns, and when."""

    windows: tuple[Windows, ...]
    wait: str
    severity: str
    seen_at: str
    """When its cases look: the long window is full by then."""


FAST = Urgency(PAGES, "2m", PAGE, "2h")
SLOW = Urgency(TICKETS, "15m", TICKET, "30h")


def availability(name: str, urgency: Urgency, *, failing: float) -> Alert:
    """An alert on requests that fail; its case has ``failing`` of a hundred fail."""
    at = urgency.seen_at
    return Alert(
        name=name,
        expression=lambda over: burn(AVAILABILITY, urgency.windows, over),
        wait=urgency.wait,
        severity=urgency.severity,
        summary="requests to {{ $labels.namespace }} fail too often",
        description=(
            "{{ $value | humanizePercentage }} of the requests to {{ "
            "$labels.namespace }} have failed by a fault of the server; 0.1% may."
        ),
        fault="PostgreSQL is stopped while clients append",
        board="slo",
        cases=(
            fires(
                {**answers("Match", "ok", 100 - failing), **answers("Match", "store", failing)},
                at=at,
                labels={"namespace": "fleet", "slo": AVAILABILITY},
                says=(
                    "requests to fleet fail too often",
                    f"{failing:g}% of the requests to fleet have failed by a fault of the server;"
                    " 0.1% may.",
                ),
            ),
            silent(
                {**answers("Match", "ok", 100), **answers("Match", "store", 0.02)},
                at=at,
                what="within the budget",
            ),
            silent(
                {**answers("Match", "ok", 98), **answers("Append", "bad_input", 50)},
                at=at,
                what="mistakes of those who ask",
            ),
            silent({**answers("Match", "store", 0.01)}, at=at, what="few requests"),
        ),
    )


def latency(name: str, urgency: Urgency, *, late: float) -> Alert:
    """An alert on answers that come too late; its case has ``late`` of a hundred come so."""
    at = urgency.seen_at
    return Alert(
        name=name,
        expression=lambda over: burn(LATENCY, urgency.windows, over),
        wait=urgency.wait,
        severity=urgency.severity,
        summary="requests to {{ $labels.namespace }} are answered too late",
        description=(
            "{{ $value | humanizePercentage }} of the answers of {{ $labels.namespace"
            " }} came too late; 1% may."
        ),
        fault="the agents are frozen again and again",
        board="slo",
        cases=(
            fires(
                {**answers("Match", "ok", 100), **in_time("Match", 100 - late)},
                at=at,
                labels={"namespace": "fleet", "slo": LATENCY},
                says=(
                    "requests to fleet are answered too late",
                    f"{late:g}% of the answers of fleet came too late; 1% may.",
                ),
            ),
            silent(
                {
                    **answers("Match", "ok", 100),
                    **in_time("Match", 100),
                    **answers("Append", "ok", 50),
                    **in_time("Append", 50),
                },
                at=at,
            ),
            silent(
                {**answers("Match", "store", 100)}, at=at, what="failures are another objective"
            ),
            silent(
                {**answers("Append", "ok", 0.01), **in_time("Append", 0)},
                at=at,
                what="few requests",
            ),
        ),
    )


def burn(slo: str, windows: tuple[Windows, ...], pace: Pace) -> str:
    """Whether an objective's budget burns faster than one of the pairs of windows allows."""
    return " or ".join(f"({_pair(slo, each, pace)})" for each in windows)


def _pair(slo: str, windows: Windows, pace: Pace) -> str:
    limit = round(windows.rate * (1 - recordings.OBJECTIVES[slo]), 6)
    long, short = (
        f"{promql.series(SLI_ERROR[window], slo=slo)} > {limit:g}"
        for window in (windows.long, windows.short)
    )
    frames = promql.among(*recordings.ASKED)
    enough = increase(metrics.REQUEST_LATENCY_S, pace(windows.long), "namespace", suffix="_count",
                      component="coordinator", frame=frames)  # fmt: skip
    return f"{long} and {short} and on (namespace) {enough} > {REQUESTS_MIN}"


def answers(frame: str, result: str, each_minute: float) -> dict[str, Values]:
    """Requests that were answered so, so many each minute."""
    series = of(metrics.REQUEST_LATENCY_S, "coordinator", "c1", suffix="_count",
                frame=frame, result=result)  # fmt: skip
    return {series: Grows(each_minute)}


def in_time(frame: str, each_minute: float) -> Mapping[str, Values]:
    """Answers that came in time, so many each minute."""
    limit = f"{recordings.IN_TIME_S[frame]}"
    series = of(metrics.REQUEST_LATENCY_S, "coordinator", "c1", suffix="_bucket",
                frame=frame, result=words.OK, le=limit)  # fmt: skip
    return {series: Grows(each_minute)}
