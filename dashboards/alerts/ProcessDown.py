"""A process is not reached."""

from __future__ import annotations

from dashboards.cases import fires, of, silent, target
from dashboards.rules import PAGE, Alert, Holds, Written, ours
from dashboards.series import UP

ALERT = Alert(
    name="ProcessDown",
    expression=lambda _: f"{ours(UP)} == 0",
    wait="5m",
    severity=PAGE,
    summary="{{ $labels.component }} {{ $labels.pod }} is not reached",
    description=(
        "Prometheus has not reached {{ $labels.component }} {{ $labels.pod }} of "
        "{{ $labels.namespace }} at {{ $labels.instance }} for five minutes."
    ),
    fault="an agent is killed and stays away",
    board="fleet",
    cases=(
        fires(
            {of(UP, "agent", "a1"): Holds(0)},
            at="6m",
            labels=target("agent", "a1"),
            says=(
                "agent a1 is not reached",
                "Prometheus has not reached agent a1 of fleet at a1:9090 for five minutes.",
            ),
        ),
        silent({of(UP, "agent", "a1"): Holds(1)}, at="1h"),
        silent({of(UP, "agent", "a1"): Written("1x10 0x3 1x20")}, at="14m", what="a restart"),
    ),
)
