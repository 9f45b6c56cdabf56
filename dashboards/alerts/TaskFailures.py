"""A background loop fails again and again."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
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
        "The loop {{ $labels.task }} of {{ $labels.component }} {{ $labels.pod }}"
        " in {{ $labels.namespace }} has failed {{ $value | humanize }} times "
        "within a quarter of an hour."
    ),
    fault="no signing request can be answered",
    board="fleet",
    cases=(
        fires(
            {of(metrics.TASK_FAILURES, "sync", "s1", task="sync.watch"): Grows(2)},
            at="30m",
            labels={"namespace": "fleet", "component": "sync", "pod": "s1", "task": "sync.watch"},
            says=(
                "sync.watch of sync s1 fails again and again",
                (
                    "The loop sync.watch of sync s1 in fleet has failed 30 times within"
                    " a quarter of an hour."
                ),
            ),
        ),
        silent(
            {of(metrics.TASK_FAILURES, "sync", "s1", task="sync.watch"): Holds(40)},
            at="1h",
            what="long ago",
        ),
    ),
)
