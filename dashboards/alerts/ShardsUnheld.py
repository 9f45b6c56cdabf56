"""Alert: shards are held by no agent, so matches on them are refused."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import largest
from dashboards.rules import PAGE, Alert, Holds, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="ShardsUnheld",
    expression=lambda _: f"{largest(ours(metrics.SHARDS, state='unheld'), 'namespace')} > 0",
    wait="5m",
    severity=PAGE,
    summary="{{ $value }} shards in {{ $labels.namespace }} are held by no agent",
    description=(
        "{{ $value }} shards in {{ $labels.namespace }} are held by no agent "
        "that a coordinator can reach. Matches on these shards are refused as "
        "unavailable."
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
                "4 shards in fleet are held by no agent",
                (
                    "4 shards in fleet are held by no agent that a coordinator can reach. "
                    "Matches on these shards are refused as unavailable."
                ),
            ),
        ),
        silent({of(metrics.SHARDS, "coordinator", "c1", state="unheld"): Holds(0)}, at="1h"),
        silent(
            {of(metrics.SHARDS, "coordinator", "c1", state="underreplicated"): Holds(4)},
            at="1h",
            what="each shard has one replica",
        ),
    ),
)
