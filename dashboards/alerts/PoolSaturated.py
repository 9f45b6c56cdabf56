"""The pool of connections to PostgreSQL is used up."""

from __future__ import annotations

from dashboards.cases import fires, of, silent, target
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics

SHARE_MAX = 0.9
ALERT = Alert(
    name="PoolSaturated",
    expression=lambda _: (
        f"{ours(metrics.POOL_CONNECTIONS, state='busy', component='sync')} / ignoring (state)"
        f" {ours(metrics.POOL_CAPACITY, component='sync')} > {SHARE_MAX}"
    ),
    wait="10m",
    severity=TICKET,
    summary=(
        "the connections of {{ $labels.component }} {{ $labels.pod }} to PostgreSQL are used up"
    ),
    description=(
        "{{ $value | humanizePercentage }} of the connections that {{ "
        "$labels.component }} {{ $labels.pod }} of {{ $labels.namespace }} may "
        "have to PostgreSQL are busy."
    ),
    fault="PostgreSQL is frozen while clients ask",
    board="sync",
    cases=(
        fires(
            {
                of(metrics.POOL_CONNECTIONS, "sync", "s1", state="busy"): Holds(10),
                of(metrics.POOL_CAPACITY, "sync", "s1"): Holds(10),
            },
            at="11m",
            labels=target("sync", "s1"),
            says=(
                "the connections of sync s1 to PostgreSQL are used up",
                "100% of the connections that sync s1 of fleet may have to PostgreSQL are busy.",
            ),
        ),
        silent(
            {
                of(metrics.POOL_CONNECTIONS, "sync", "s1", state="busy"): Holds(5),
                of(metrics.POOL_CAPACITY, "sync", "s1"): Holds(10),
            },
            at="1h",
        ),
        silent(
            {of(metrics.POOL_CONNECTIONS, "sync", "s1", state="busy"): Holds(5)},
            at="1h",
            what="no capacity is known",
        ),
    ),
)
