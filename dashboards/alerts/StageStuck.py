"""Alert: a process has been starting or draining for too long."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.promql import among
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="StageStuck",
    expression=lambda _: f"{ours(metrics.STAGE, stage=among('starting', 'draining'))} == 1",
    wait="15m",
    severity=TICKET,
    summary="{{ $labels.component }} {{ $labels.pod }} is {{ $labels.stage }} for too long",
    description=(
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "has been {{ $labels.stage }} for 15 minutes."
    ),
    fault="an agent is started while PostgreSQL is stopped",
    board="fleet",
    cases=(
        fires(
            {of(metrics.STAGE, "agent", "a1", stage="draining"): Holds(1)},
            at="16m",
            labels={**target("agent", "a1"), "stage": "draining"},
            says=(
                "agent a1 is draining for too long",
                "agent a1 in fleet has been draining for 15 minutes.",
            ),
        ),
        silent(
            {
                of(metrics.STAGE, "agent", "a1", stage="starting"): Holds(0),
                of(metrics.STAGE, "agent", "a1", stage="serving"): Holds(1),
            },
            at="1h",
        ),
    ),
)
