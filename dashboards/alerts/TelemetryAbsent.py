"""Prometheus knows no process at all."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
from dashboards.rules import PAGE, Alert, Holds, ours
from dashboards.series import JOB, UP

ALERT = Alert(
    name="TelemetryAbsent",
    expression=lambda _: f"absent({ours(UP)})",
    wait="10m",
    severity=PAGE,
    summary="Prometheus knows no process of Midstreamer",
    description=(
        "There has been no target with job {{ $labels.job }} for ten minutes: no "
        "other alert can fire."
    ),
    fault="every target is taken away",
    board="fleet",
    cases=(
        fires(
            {},
            at="11m",
            labels={"job": JOB},
            says=(
                "Prometheus knows no process of Midstreamer",
                (
                    "There has been no target with job midstreamer for ten minutes: no"
                    " other alert can fire."
                ),
            ),
        ),
        silent({of(UP, "agent", "a1"): Holds(0)}, at="1h", what="a target that is down is known"),
    ),
    absence=True,
)
