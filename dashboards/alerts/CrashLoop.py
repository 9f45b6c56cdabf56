"""Alert: a process restarts again and again."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.rules import PAGE, Alert, Holds, Written, ours
from dashboards.uncatalogued_series import STARTED

MOST = 2
ALERT = Alert(
    name="CrashLoop",
    expression=lambda over: f"changes({ours(STARTED)}[{over('15m')}]) > {MOST}",
    wait="1m",
    severity=PAGE,
    summary="{{ $labels.component }} {{ $labels.pod }} restarts again and again",
    description=(
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "restarted {{ $value }} times within the last 15 minutes."
    ),
    fault="an agent is killed each time it has started",
    board="fleet",
    cases=(
        fires(
            {of(STARTED, "agent", "a1"): Written("0+60x60")},
            at="30m",
            labels=target("agent", "a1"),
            says=(
                "agent a1 restarts again and again",
                "agent a1 in fleet restarted 14 times within the last 15 minutes.",
            ),
        ),
        silent({of(STARTED, "agent", "a1"): Holds(100)}, at="1h"),
        silent({of(STARTED, "agent", "a1"): Written("100x10 700x60")}, at="15m", what="an upgrade"),
    ),
)
