"""Alert: PostgreSQL does not answer a sync."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.rules import PAGE, Alert, Holds, Written, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="PostgresDown",
    expression=lambda _: f"{ours(metrics.POSTGRES_UP, component='sync')} == 0",
    wait="2m",
    severity=PAGE,
    summary="PostgreSQL does not answer {{ $labels.component }} {{ $labels.pod }}",
    description=(
        "PostgreSQL has not answered {{ $labels.component }} {{ $labels.pod }} "
        "in {{ $labels.namespace }} for two minutes. This sync cannot store "
        "anything."
    ),
    fault="PostgreSQL is stopped",
    board="sync",
    cases=(
        fires(
            {of(metrics.POSTGRES_UP, "sync", "s1"): Holds(0)},
            at="3m",
            labels=target("sync", "s1"),
            says=(
                "PostgreSQL does not answer sync s1",
                (
                    "PostgreSQL has not answered sync s1 in fleet for two minutes. This sync "
                    "cannot store anything."
                ),
            ),
        ),
        silent({of(metrics.POSTGRES_UP, "sync", "s1"): Holds(1)}, at="1h"),
        silent(
            {of(metrics.POSTGRES_UP, "agent", "a1"): Holds(0)},
            at="1h",
            what="an agent has no connection to PostgreSQL",
        ),
        silent(
            {of(metrics.POSTGRES_UP, "sync", "s1"): Written("1x5 0x1 1x10")},
            at="7m",
            what="PostgreSQL restarts",
        ),
    ),
)
