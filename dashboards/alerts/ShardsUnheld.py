"""A part of history is held by nobody."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
from dashboards.promql import largest
from dashboards.rules import PAGE, Alert, Holds, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="ShardsUnheld",
    expression=lambda _: f"{largest(ours(metrics.SHARDS, state='unheld'), 'namespace')} > 0",
    wait="5m",
    severity=PAGE,
    summary="{{ $value }} shards of {{ $labels.namespace }} are held by no agent",
    description=(
        "No agent in reach of a coordinator of {{ $labels.namespace }} holds {{ "
        "$value }} shards: a match on them is refused with unavailable."
    ),
    fault="every agent is killed",
    board="agents",
    cases=(
        fires(
            {
                of(metrics.SHARDS, "coordinator", "c1", state="unheld"): Holds(4),
                of(metrics.SHARDS, "coordinator", "c2", state="unheld"): Holds(3),
            },
            at="6m",
            labels={"namespace": "fleet"},
            says=(
                "4 shards of fleet are held by no agent",
                (
                    "No agent in reach of a coordinator of fleet holds 4 shards: a match"
                    " on them is refused with unavailable."
                ),
            ),
        ),
        silent({of(metrics.SHARDS, "coordinator", "c1", state="unheld"): Holds(0)}, at="1h"),
        silent(
            {of(metrics.SHARDS, "coordinator", "c1", state="underreplicated"): Holds(4)},
            at="1h",
            what="one copy is there",
        ),
    ),
)
