"""Alert: a background task of a process fails again and again."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.rules import TICKET, Alert, Grows, Holds, increase
from midstreamer.telemetry import metrics

MOST = 3
ALERT = Alert(
    name="TaskFailures",
    expression=lambda over: (
        f"{increase(metrics.TASK_FAILURES, over('15m'), 'namespace', 'component', 'pod', 'task')} >"
        f" {MOST}"
    ),
    wait="1m",
    severity=TICKET,
    summary=(
        "{{ $labels.task }} of {{ $labels.component }} {{ $labels.pod }} fails again and again"
    ),
    description=(
        "The background task {{ $labels.task }} of {{ $labels.component }} "
        "{{ $labels.pod }} in {{ $labels.namespace }} failed "
        "{{ $value | humanize }} times within the last 15 minutes."
    ),
    fault="the API server rejects every answer to a signing request",
    board="fleet",
    cases=(
        fires(
            {of(metrics.TASK_FAILURES, "sync", "s1", task="sync.watch"): Grows(2)},
            at="30m",
            labels={"namespace": "fleet", "component": "sync", "pod": "s1", "task": "sync.watch"},
            says=(
                "sync.watch of sync s1 fails again and again",
                (
                    "The background task sync.watch of sync s1 in fleet failed 30 times "
                    "within the last 15 minutes."
                ),
            ),
        ),
        silent(
            {of(metrics.TASK_FAILURES, "sync", "s1", task="sync.watch"): Holds(40)},
            at="1h",
            what="the failures are long ago",
        ),
    ),
)
