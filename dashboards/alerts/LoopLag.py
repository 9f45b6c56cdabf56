"""Alert: the event loop of a process wakes timers too late."""

from __future__ import annotations

from dashboards import promql
from dashboards.alert_cases import fires, of, silent
from dashboards.rules import TICKET, Alert, Grows
from dashboards.uncatalogued_series import JOB
from midstreamer.telemetry import metrics

LAG_MAX_S = 0.5


def _lag(over: str) -> str:
    by = ("namespace", "component", "pod")
    return promql.quantile(0.99, metrics.LOOP_LAG_S, over, *by, job=JOB)


ALERT = Alert(
    name="LoopLag",
    expression=lambda over: f"{_lag(over('5m'))} > {LAG_MAX_S}",
    wait="10m",
    severity=TICKET,
    summary="the event loop of {{ $labels.component }} {{ $labels.pod }} is late",
    description=(
        "The event loop of {{ $labels.component }} {{ $labels.pod }} in "
        "{{ $labels.namespace }} wakes 1 of 100 timers "
        "{{ $value | humanizeDuration }} late or later. Everything that this "
        "process does is delayed as much."
    ),
    fault="a coordinator is frozen repeatedly for more than a second",
    board="fleet",
    cases=(
        fires(
            {
                of(metrics.LOOP_LAG_S, "coordinator", "c1", suffix="_bucket", le="0.5"): Grows(100),
                of(metrics.LOOP_LAG_S, "coordinator", "c1", suffix="_bucket", le="1.0"): Grows(200),
                of(metrics.LOOP_LAG_S, "coordinator", "c1", suffix="_bucket", le="+Inf"): Grows(
                    200
                ),
            },
            at="30m",
            labels={"namespace": "fleet", "component": "coordinator", "pod": "c1"},
            says=(
                "the event loop of coordinator c1 is late",
                (
                    "The event loop of coordinator c1 in fleet wakes 1 of 100 timers 990ms "
                    "late or later. Everything that this process does is delayed as much."
                ),
            ),
        ),
        silent(
            {
                of(metrics.LOOP_LAG_S, "coordinator", "c1", suffix="_bucket", le="0.5"): Grows(200),
                of(metrics.LOOP_LAG_S, "coordinator", "c1", suffix="_bucket", le="1.0"): Grows(200),
                of(metrics.LOOP_LAG_S, "coordinator", "c1", suffix="_bucket", le="+Inf"): Grows(
                    200
                ),
            },
            at="1h",
        ),
    ),
)
