"""Something that a process needs is missing."""

from __future__ import annotations

from dashboards.cases import fires, of, silent, target
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
        "{{ $labels.component }} {{ $labels.pod }} of {{ $labels.namespace }} has"
        " said for ten minutes that a part which it needs is not there; what it "
        "cannot answer it refuses."
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
                    "coordinator c1 of fleet has said for ten minutes that a part which"
                    " it needs is not there; what it cannot answer it refuses."
                ),
            ),
        ),
        silent({of(metrics.COMPLETE, "coordinator", "c1"): Holds(1)}, at="1h"),
        silent(
            {of(metrics.COMPLETE, "client", "u1"): Holds(0)}, at="1h", what="a client has no parts"
        ),
    ),
)
