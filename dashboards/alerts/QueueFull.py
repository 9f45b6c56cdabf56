"""Alert: a bounded queue is almost full."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.rules import PAGE, Alert, Holds, ours
from midstreamer.telemetry import metrics

SHARE_MAX = 0.9
ALERT = Alert(
    name="QueueFull",
    expression=lambda _: (
        f"{ours(metrics.QUEUE_DEPTH)} / {ours(metrics.QUEUE_CAPACITY)} > {SHARE_MAX}"
    ),
    wait="5m",
    severity=PAGE,
    summary=(
        "the queue {{ $labels.queue }} of {{ $labels.component }} {{ $labels.pod }} is almost full"
    ),
    description=(
        "The queue {{ $labels.queue }} of {{ $labels.component }} "
        "{{ $labels.pod }} in {{ $labels.namespace }} is at "
        "{{ $value | humanizePercentage }} of its capacity. When it is full, new "
        "requests are refused as overloaded."
    ),
    fault="PostgreSQL is stopped while clients append",
    board="coordinator",
    cases=(
        fires(
            {
                of(metrics.QUEUE_DEPTH, "coordinator", "c1", queue="matches"): Holds(95),
                of(metrics.QUEUE_CAPACITY, "coordinator", "c1", queue="matches"): Holds(100),
            },
            at="6m",
            labels={**target("coordinator", "c1"), "queue": "matches"},
            says=(
                "the queue matches of coordinator c1 is almost full",
                (
                    "The queue matches of coordinator c1 in fleet is at 95% of its capacity. "
                    "When it is full, new requests are refused as overloaded."
                ),
            ),
        ),
        silent(
            {
                of(metrics.QUEUE_DEPTH, "coordinator", "c1", queue="matches"): Holds(50),
                of(metrics.QUEUE_CAPACITY, "coordinator", "c1", queue="matches"): Holds(100),
            },
            at="1h",
        ),
        silent(
            {
                of(metrics.QUEUE_DEPTH, "coordinator", "c1", queue="requests"): Holds(0),
                of(metrics.QUEUE_CAPACITY, "coordinator", "c1", queue="requests"): Holds(0),
            },
            at="1h",
            what="no links, so the queue has no capacity",
        ),
        silent(
            {of(metrics.QUEUE_DEPTH, "coordinator", "c1", queue="matches"): Holds(95)},
            at="1h",
            what="the capacity is unknown",
        ),
    ),
)
