"""Alert: Prometheus cannot scrape a process."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.rules import PAGE, Alert, Holds, Written, ours
from dashboards.uncatalogued_series import UP

ALERT = Alert(
    name="ProcessDown",
    expression=lambda _: f"{ours(UP)} == 0",
    wait="5m",
    severity=PAGE,
    summary="{{ $labels.component }} {{ $labels.pod }} is not reachable",
    description=(
        "Prometheus has not been able to scrape {{ $labels.component }} "
        "{{ $labels.pod }} in {{ $labels.namespace }} at {{ $labels.instance }} "
        "for five minutes."
    ),
    fault="an agent is killed and not started again",
    board="fleet",
    cases=(
        fires(
            {of(UP, "agent", "a1"): Holds(0)},
            at="6m",
            labels=target("agent", "a1"),
            says=(
                "agent a1 is not reachable",
                (
                    "Prometheus has not been able to scrape agent a1 in fleet at a1:9090 for "
                    "five minutes."
                ),
            ),
        ),
        silent({of(UP, "agent", "a1"): Holds(1)}, at="1h"),
        silent(
            {of(UP, "agent", "a1"): Written("1x10 0x3 1x20")}, at="14m", what="the process restarts"
        ),
    ),
)
