"""Alerts on how fast the error budget of an objective is spent (its burn rate).

A burn rate of 1 spends the budget in exactly its period of thirty days.  Each alert looks at pairs
of windows.  The long window shows that the errors are no short disturbance.  The short window shows
that they still happen, so that the alert ends soon after its cause.  An alert also needs enough
requests within the long window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dashboards import promql, recording_rules
from dashboards.alert_cases import fires, of, silent
from dashboards.recording_rules import AVAILABILITY, LATENCY
from dashboards.rules import PAGE, TICKET, Alert, Grows, Pace, Values, increase
from dashboards.uncatalogued_series import SLI_ERROR
from midstreamer.telemetry import label_values, metrics

REQUESTS_MIN = 100
"""An alert fires only if the long window has more requests than this.

If there are only few requests, a single failure is already a large share.
"""


class Windows(NamedTuple):
    """A pair of windows: an alert fires when the burn rate exceeds ``rate`` in both of them."""

    short: str
    long: str
    rate: float


PAGES = (Windows("5m", "1h", 14.4), Windows("30m", "6h", 6.0))
"""Windows of alerts that call a person at once.

Such an alert fires if errors spend 2 % of the error budget in 1 hour, or 5 % in 6 hours.
"""
TICKETS = (Windows("2h", "1d", 3.0), Windows("6h", "3d", 1.0))
"""Windows of alerts that can wait for a working day.

Such an alert fires if errors spend 10 % of the error budget in 1 day, or in 3 days.
"""


class Urgency(NamedTuple):
    """How urgent an alert on a burn rate is: its windows, its wait before it fires, severity."""

    windows: tuple[Windows, ...]
    wait: str
    severity: str
    seen_at: str
    """When a test case evaluates the alert, as a time since the first sample, such as ``2h``.

    By then the samples fill the long window of the first pair in ``windows``.
    """


FAST = Urgency(PAGES, "2m", PAGE, "2h")
SLOW = Urgency(TICKETS, "15m", TICKET, "30h")


def availability(name: str, urgency: Urgency, *, failing: float) -> Alert:
    """Return an alert on failed requests.

    In the test case in which the alert must fire, ``failing`` percent of the requests fail.
    """
    at = urgency.seen_at
    return Alert(
        name=name,
        expression=lambda over: burn(AVAILABILITY, urgency.windows, over),
        wait=urgency.wait,
        severity=urgency.severity,
        summary="too many requests to {{ $labels.namespace }} fail",
        description=(
            "{{ $value | humanizePercentage }} of the requests to "
            "{{ $labels.namespace }} failed because of a fault of the server. "
            "The objective allows 0.1%."
        ),
        fault="PostgreSQL is stopped while clients append",
        board="slo",
        cases=(
            fires(
                {**answers("Match", "ok", 100 - failing), **answers("Match", "store", failing)},
                at=at,
                labels={"namespace": "fleet", "slo": AVAILABILITY},
                says=(
                    "too many requests to fleet fail",
                    f"{failing:g}% of the requests to fleet failed because of a fault of the"
                    " server. The objective allows 0.1%.",
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
                what="requests that are wrong",
            ),
            silent({**answers("Match", "store", 0.01)}, at=at, what="few requests"),
        ),
    )


def latency(name: str, urgency: Urgency, *, late: float) -> Alert:
    """Return an alert on late answers.

    In the test case in which the alert must fire, ``late`` percent of the answers are late.
    """
    at = urgency.seen_at
    return Alert(
        name=name,
        expression=lambda over: burn(LATENCY, urgency.windows, over),
        wait=urgency.wait,
        severity=urgency.severity,
        summary="too many requests to {{ $labels.namespace }} are answered late",
        description=(
            "{{ $value | humanizePercentage }} of the answers of "
            "{{ $labels.namespace }} came too late. The objective allows 1%."
        ),
        fault="the agents are frozen repeatedly",
        board="slo",
        cases=(
            fires(
                {**answers("Match", "ok", 100), **in_time("Match", 100 - late)},
                at=at,
                labels={"namespace": "fleet", "slo": LATENCY},
                says=(
                    "too many requests to fleet are answered late",
                    f"{late:g}% of the answers of fleet came too late. The objective allows 1%.",
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
                {**answers("Match", "store", 100)},
                at=at,
                what="failures count for the other objective",
            ),
            silent(
                {**answers("Append", "ok", 0.01), **in_time("Append", 0)},
                at=at,
                what="few requests",
            ),
        ),
    )


def burn(slo: str, windows: tuple[Windows, ...], pace: Pace) -> str:
    """Return PromQL that is true when the burn rate is too high in both windows of any pair."""
    return " or ".join(f"({_pair(slo, each, pace)})" for each in windows)


def _pair(slo: str, windows: Windows, pace: Pace) -> str:
    limit = round(windows.rate * (1 - recording_rules.OBJECTIVES[slo]), 6)
    long, short = (
        f"{promql.series(SLI_ERROR[window], slo=slo)} > {limit:g}"
        for window in (windows.long, windows.short)
    )
    frames = promql.among(*recording_rules.ASKED)
    enough = increase(metrics.REQUEST_LATENCY_S, pace(windows.long), "namespace", suffix="_count",
                      component="coordinator", frame=frames)  # fmt: skip
    return f"{long} and {short} and on (namespace) {enough} > {REQUESTS_MIN}"


def answers(frame: str, result: str, each_minute: float) -> dict[str, Values]:
    """Return samples for a test: a counter of answers that grows by ``each_minute`` a minute."""
    series = of(metrics.REQUEST_LATENCY_S, "coordinator", "c1", suffix="_count",
                frame=frame, result=result)  # fmt: skip
    return {series: Grows(each_minute)}


def in_time(frame: str, each_minute: float) -> Mapping[str, Values]:
    """Return samples for a test: a counter of successful answers that came in time.

    The counter grows by ``each_minute`` a minute.
    """
    limit = f"{recording_rules.IN_TIME_S[frame]}"
    series = of(metrics.REQUEST_LATENCY_S, "coordinator", "c1", suffix="_bucket",
                frame=frame, result=label_values.OK, le=limit)  # fmt: skip
    return {series: Grows(each_minute)}
