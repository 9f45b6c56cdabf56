"""Alert: a process has been behind the change feed for too long."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.promql import among
from dashboards.rules import PAGE, Alert, Holds, ours
from midstreamer.telemetry import metrics

LAG_MAX_S = 30
ALERT = Alert(
    name="FeedLag",
    expression=lambda _: (
        f"{ours(metrics.FEED_LAG_S, component=among('sync', 'coordinator', 'agent'))} > {LAG_MAX_S}"
    ),
    wait="5m",
    severity=PAGE,
    summary="{{ $labels.component }} {{ $labels.pod }} is behind the feed",
    description=(
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "last had all changes of the feed {{ $value | humanizeDuration }} ago."
    ),
    fault="both syncs are frozen",
    board="fleet",
    cases=(
        fires(
            {of(metrics.FEED_LAG_S, "agent", "a1"): Holds(90)},
            at="6m",
            labels=target("agent", "a1"),
            says=(
                "agent a1 is behind the feed",
                ("agent a1 in fleet last had all changes of the feed 1m 30s ago."),
            ),
        ),
        silent({of(metrics.FEED_LAG_S, "agent", "a1"): Holds(1)}, at="1h"),
    ),
)
