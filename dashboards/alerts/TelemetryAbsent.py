"""Alert: Prometheus has no target of Midstreamer."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.rules import PAGE, Alert, Holds, ours
from dashboards.uncatalogued_series import JOB, UP

ALERT = Alert(
    name="TelemetryAbsent",
    expression=lambda _: f"absent({ours(UP)})",
    wait="10m",
    severity=PAGE,
    summary="Prometheus has no target of Midstreamer",
    description=(
        "Prometheus has had no target with the job {{ $labels.job }} for ten "
        "minutes. No other alert can fire."
    ),
    fault="every target is removed from Prometheus",
    board="fleet",
    cases=(
        fires(
            {},
            at="11m",
            labels={"job": JOB},
            says=(
                "Prometheus has no target of Midstreamer",
                (
                    "Prometheus has had no target with the job midstreamer for ten minutes. "
                    "No other alert can fire."
                ),
            ),
        ),
        silent({of(UP, "agent", "a1"): Holds(0)}, at="1h", what="a target exists but is down"),
    ),
    absence=True,
)
