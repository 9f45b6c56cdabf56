"""A process has nearly as many files open as it may."""

from __future__ import annotations

from dashboards.cases import fires, of, silent, target
from dashboards.rules import TICKET, Alert, Holds, ours
from dashboards.series import MOST_FILES, OPEN_FILES

SHARE_MAX = 0.8
ALERT = Alert(
    name="OpenFiles",
    expression=lambda _: f"{ours(OPEN_FILES)} / {ours(MOST_FILES)} > {SHARE_MAX}",
    wait="10m",
    severity=TICKET,
    summary=("{{ $labels.component }} {{ $labels.pod }} has nearly as many files open as it may"),
    description=(
        "{{ $value | humanizePercentage }} of the files and sockets that {{ "
        "$labels.component }} {{ $labels.pod }} of {{ $labels.namespace }} may "
        "have are open."
    ),
    fault="the limit of an agent's open files is lowered",
    board="fleet",
    cases=(
        fires(
            {of(OPEN_FILES, "sync", "s1"): Holds(900), of(MOST_FILES, "sync", "s1"): Holds(1000)},
            at="11m",
            labels=target("sync", "s1"),
            says=(
                "sync s1 has nearly as many files open as it may",
                "90% of the files and sockets that sync s1 of fleet may have are open.",
            ),
        ),
        silent(
            {of(OPEN_FILES, "sync", "s1"): Holds(90), of(MOST_FILES, "sync", "s1"): Holds(1000)},
            at="1h",
        ),
    ),
)
