"""Alert: the oldest entry of a queue has waited for too long."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics

OLDEST_MAX_S = 5
ALERT = Alert(
    name="QueueOld",
    expression=lambda _: f"{ours(metrics.QUEUE_OLDEST_S)} > {OLDEST_MAX_S}",
    wait="5m",
    severity=TICKET,
    summary=(
        "the queue {{ $labels.queue }} of {{ $labels.component }} "
        "{{ $labels.pod }} does not advance"
    ),
    description=(
        "The oldest entry of the queue {{ $labels.queue }} of "
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "has waited for {{ $value | humanizeDuration }}."
    ),
    fault="PostgreSQL is stopped while clients append",
    board="coordinator",
    cases=(
        fires(
            {of(metrics.QUEUE_OLDEST_S, "coordinator", "c1", queue="outbox"): Holds(90)},
            at="6m",
            labels={**target("coordinator", "c1"), "queue": "outbox"},
            says=(
                "the queue outbox of coordinator c1 does not advance",
                (
                    "The oldest entry of the queue outbox of coordinator c1 in fleet has "
                    "waited for 1m 30s."
                ),
            ),
        ),
        silent(
            {of(metrics.QUEUE_OLDEST_S, "coordinator", "c1", queue="outbox"): Holds(0.5)}, at="1h"
        ),
    ),
)
