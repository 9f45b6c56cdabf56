"""Alert: a process lacks something that it needs, such as shards or a sync."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.promql import among
from dashboards.rules import PAGE, Alert, Holds, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="Incomplete",
    expression=lambda _: (
        f"{ours(metrics.COMPLETE, component=among('sync', 'coordinator', 'agent', 'postgres'))} == "
        f"0"
    ),
    wait="10m",
    severity=PAGE,
    summary="{{ $labels.component }} {{ $labels.pod }} lacks something that it needs",
    description=(
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "has reported for ten minutes that it lacks a part that it needs. It "
        "refuses the requests that need this part."
    ),
    fault="every agent is killed",
    board="fleet",
    cases=(
        fires(
            {of(metrics.COMPLETE, "coordinator", "c1"): Holds(0)},
            at="11m",
            labels=target("coordinator", "c1"),
            says=(
                "coordinator c1 lacks something that it needs",
                (
                    "coordinator c1 in fleet has reported for ten minutes that it lacks a "
                    "part that it needs. It refuses the requests that need this part."
                ),
            ),
        ),
        silent({of(metrics.COMPLETE, "coordinator", "c1"): Holds(1)}, at="1h"),
        silent(
            {of(metrics.COMPLETE, "client", "u1"): Holds(0)},
            at="1h",
            what="a client needs no parts",
        ),
    ),
)
