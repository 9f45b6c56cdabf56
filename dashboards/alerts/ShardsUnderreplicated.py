"""Alert: shards are held by fewer agents than configured."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import largest
from dashboards.rules import TICKET, Alert, Holds, Written, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="ShardsUnderreplicated",
    expression=lambda _: (
        f"{largest(ours(metrics.SHARDS, state='underreplicated'), 'namespace')} > 0"
    ),
    wait="15m",
    severity=TICKET,
    summary="{{ $value }} shards in {{ $labels.namespace }} have too few replicas",
    description=(
        "In {{ $labels.namespace }}, {{ $value }} shards are held by fewer "
        "agents than they should be. If one more agent is lost, matches on these "
        "shards may be refused."
    ),
    fault="all agents but one are killed",
    board="agents",
    cases=(
        fires(
            {of(metrics.SHARDS, "coordinator", "c1", state="underreplicated"): Holds(4)},
            at="16m",
            labels={"namespace": "fleet"},
            says=(
                "4 shards in fleet have too few replicas",
                (
                    "In fleet, 4 shards are held by fewer agents than they should be. If one "
                    "more agent is lost, matches on these shards may be refused."
                ),
            ),
        ),
        silent(
            {of(metrics.SHARDS, "coordinator", "c1", state="underreplicated"): Holds(0)}, at="1h"
        ),
        silent(
            {
                of(metrics.SHARDS, "coordinator", "c1", state="underreplicated"): Written(
                    "0x5 4x10 0x20"
                )
            },
            at="16m",
            what="an agent is being replaced",
        ),
    ),
)
