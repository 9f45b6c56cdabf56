"""Alert: the operator has not completed one of its tasks for a long time."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import largest
from dashboards.rules import TICKET, Alert, Holds, Written, ours
from midstreamer.telemetry import metrics

AGE_MAX = "15m"


def _last_ok() -> str:
    kept = ours(metrics.OPERATOR_LAST_OK_S, component="operator")
    return largest(kept, "namespace", "work")


ALERT = Alert(
    name="OperatorStale",
    expression=lambda over: f"time() - {_last_ok()} > {over.seconds(AGE_MAX):g}",
    wait="5m",
    severity=TICKET,
    summary="the operator in {{ $labels.namespace }} does not complete its {{ $labels.work }}",
    description=(
        "The operator in {{ $labels.namespace }} last completed its "
        "{{ $labels.work }} without an error {{ $value | humanizeDuration }} ago."
    ),
    fault="the API server refuses every request of the operator",
    board="certificates",
    cases=(
        fires(
            {of(metrics.OPERATOR_LAST_OK_S, "operator", "o1", work="requests"): Holds(60)},
            at="31m",
            labels={"namespace": "fleet", "work": "requests"},
            says=(
                "the operator in fleet does not complete its requests",
                ("The operator in fleet last completed its requests without an error 30m 0s ago."),
            ),
        ),
        silent(
            {of(metrics.OPERATOR_LAST_OK_S, "operator", "o1", work="requests"): Written("0+60x60")},
            at="1h",
        ),
        silent(
            {
                of(metrics.OPERATOR_LAST_OK_S, "operator", "o1", work="requests"): Holds(60),
                of(metrics.OPERATOR_LAST_OK_S, "operator", "o2", work="requests"): Written(
                    "0+60x60"
                ),
            },
            at="1h",
            what="another replica completes it",
        ),
    ),
)
