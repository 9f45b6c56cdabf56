"""Alert: a process cannot use one of its security files, such as the allowlist."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="SecurityFileWrong",
    expression=lambda _: f"{ours(metrics.SECURITY_FILE_WRONG)} == 1",
    wait="10m",
    severity=TICKET,
    summary="the {{ $labels.file }} of {{ $labels.component }} {{ $labels.pod }} is invalid",
    description=(
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "cannot use its {{ $labels.file }} as it is now. The process continues "
        "with the version that it loaded before."
    ),
    fault="the allowlist is overwritten with an invalid text",
    board="certificates",
    cases=(
        fires(
            {of(metrics.SECURITY_FILE_WRONG, "sync", "s1", file="bundle"): Holds(1)},
            at="11m",
            labels={**target("sync", "s1"), "file": "bundle"},
            says=(
                "the bundle of sync s1 is invalid",
                (
                    "sync s1 in fleet cannot use its bundle as it is now. The process "
                    "continues with the version that it loaded before."
                ),
            ),
        ),
        silent({of(metrics.SECURITY_FILE_WRONG, "sync", "s1", file="bundle"): Holds(0)}, at="1h"),
    ),
)
