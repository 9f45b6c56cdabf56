"""Alert: a process has almost reached its limit of open files."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.rules import TICKET, Alert, Holds, ours
from dashboards.uncatalogued_series import MOST_FILES, OPEN_FILES

SHARE_MAX = 0.8
ALERT = Alert(
    name="OpenFiles",
    expression=lambda _: f"{ours(OPEN_FILES)} / {ours(MOST_FILES)} > {SHARE_MAX}",
    wait="10m",
    severity=TICKET,
    summary=(
        "{{ $labels.component }} {{ $labels.pod }} has almost reached its limit of open files"
    ),
    description=(
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "uses {{ $value | humanizePercentage }} of the files and sockets that it "
        "may open."
    ),
    fault="the limit of open files of an agent is lowered",
    board="fleet",
    cases=(
        fires(
            {of(OPEN_FILES, "sync", "s1"): Holds(900), of(MOST_FILES, "sync", "s1"): Holds(1000)},
            at="11m",
            labels=target("sync", "s1"),
            says=(
                "sync s1 has almost reached its limit of open files",
                "sync s1 in fleet uses 90% of the files and sockets that it may open.",
            ),
        ),
        silent(
            {of(OPEN_FILES, "sync", "s1"): Holds(90), of(MOST_FILES, "sync", "s1"): Holds(1000)},
            at="1h",
        ),
    ),
)
