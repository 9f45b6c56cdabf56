"""An event loop is late."""

from __future__ import annotations

from dashboards import promql
from dashboards.cases import fires, of, silent
from dashboards.rules import TICKET, Alert, Grows
from dashboards.series import JOB
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
        "One wake-up in a hundred of {{ $labels.component }} {{ $labels.pod }} in"
        " {{ $labels.namespace }} comes {{ $value | humanizeDuration }} late or "
        "later: everything that it does waits so long."
    ),
    fault="a coordinator is frozen again and again for a second",
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
                    "One wake-up in a hundred of coordinator c1 in fleet comes 990ms"
                    " late or later: everything that it does waits so long."
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
