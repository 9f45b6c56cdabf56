"""A process begins again and again."""

from __future__ import annotations

from dashboards.cases import fires, of, silent, target
from dashboards.rules import PAGE, Alert, Holds, Written, ours
from dashboards.series import STARTED

MOST = 2
ALERT = Alert(
    name="CrashLoop",
    expression=lambda over: f"changes({ours(STARTED)}[{over('15m')}]) > {MOST}",
    wait="1m",
    severity=PAGE,
    summary="{{ $labels.component }} {{ $labels.pod }} begins again and again",
    description=(
        "{{ $labels.component }} {{ $labels.pod }} of {{ $labels.namespace }} has"
        " begun {{ $value }} times anew within a quarter of an hour."
    ),
    fault="an agent is killed each time when it has come up",
    board="fleet",
    cases=(
        fires(
            {of(STARTED, "agent", "a1"): Written("0+60x60")},
            at="30m",
            labels=target("agent", "a1"),
            says=(
                "agent a1 begins again and again",
                "agent a1 of fleet has begun 14 times anew within a quarter of an hour.",
            ),
        ),
        silent({of(STARTED, "agent", "a1"): Holds(100)}, at="1h"),
        silent({of(STARTED, "agent", "a1"): Written("100x10 700x60")}, at="15m", what="an upgrade"),
    ),
)
