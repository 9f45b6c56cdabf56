"""A file that decides who is trusted is wrong."""

from __future__ import annotations

from dashboards.cases import fires, of, silent, target
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="SecurityFileWrong",
    expression=lambda _: f"{ours(metrics.SECURITY_FILE_WRONG)} == 1",
    wait="10m",
    severity=TICKET,
    summary=("the {{ $labels.file }} of {{ $labels.component }} {{ $labels.pod }} is wrong"),
    description=(
        "{{ $labels.component }} {{ $labels.pod }} of {{ $labels.namespace }} "
        "cannot use its {{ $labels.file }} as it is now, and keeps what it loaded"
        " from it before."
    ),
    fault="the allowlist is overwritten with nonsense",
    board="certificates",
    cases=(
        fires(
            {of(metrics.SECURITY_FILE_WRONG, "sync", "s1", file="bundle"): Holds(1)},
            at="11m",
            labels={**target("sync", "s1"), "file": "bundle"},
            says=(
                "the bundle of sync s1 is wrong",
                (
                    "sync s1 of fleet cannot use its bundle as it is now, and keeps what"
                    " it loaded from it before."
                ),
            ),
        ),
        silent({of(metrics.SECURITY_FILE_WRONG, "sync", "s1", file="bundle"): Holds(0)}, at="1h"),
    ),
)
