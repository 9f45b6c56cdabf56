"""A process does not come up, or does not go."""

from __future__ import annotations

from dashboards.cases import fires, of, silent, target
from dashboards.promql import among
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="StageStuck",
    expression=lambda _: f"{ours(metrics.STAGE, stage=among('starting', 'draining'))} == 1",
    wait="15m",
    severity=TICKET,
    summary=("{{ $labels.component }} {{ $labels.pod }} is {{ $labels.stage }} for too long"),
    description=(
        "{{ $labels.component }} {{ $labels.pod }} of {{ $labels.namespace }} has"
        " been {{ $labels.stage }} for a quarter of an hour."
    ),
    fault="an agent is started while PostgreSQL is away",
    board="fleet",
    cases=(
        fires(
            {of(metrics.STAGE, "agent", "a1", stage="draining"): Holds(1)},
            at="16m",
            labels={**target("agent", "a1"), "stage": "draining"},
            says=(
                "agent a1 is draining for too long",
                "agent a1 of fleet has been draining for a quarter of an hour.",
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
