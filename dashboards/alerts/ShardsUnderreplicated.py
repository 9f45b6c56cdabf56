"""A part of history has too few holders."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
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
    summary="{{ $value }} shards of {{ $labels.namespace }} have too few holders",
    description=(
        "Fewer agents of {{ $labels.namespace }} than should hold {{ $value }} "
        "shards: the loss of one more may leave them unanswered."
    ),
    fault="all agents but one are killed",
    board="agents",
    cases=(
        fires(
            {of(metrics.SHARDS, "coordinator", "c1", state="underreplicated"): Holds(4)},
            at="16m",
            labels={"namespace": "fleet"},
            says=(
                "4 shards of fleet have too few holders",
                (
                    "Fewer agents of fleet than should hold 4 shards: the loss of one"
                    " more may leave them unanswered."
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
            what="an agent is replaced",
        ),
    ),
)
