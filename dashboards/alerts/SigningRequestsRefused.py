"""Alert: the operator denies many certificate signing requests."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import none_of
from dashboards.rules import TICKET, Alert, Grows, increase
from midstreamer.telemetry import metrics

MOST = 10


def _denied(over: str) -> str:
    denied = none_of("signed")
    return increase(metrics.SIGNING_REQUESTS, over, "namespace", "result", result=denied)


ALERT = Alert(
    name="SigningRequestsRefused",
    expression=lambda over: f"{_denied(over('15m'))} > {MOST}",
    wait="5m",
    severity=TICKET,
    summary="signing requests in {{ $labels.namespace }} are denied: {{ $labels.result }}",
    description=(
        "Within the last 15 minutes, the operator in {{ $labels.namespace }} "
        "denied {{ $value | humanize }} signing requests with the result "
        "{{ $labels.result }}."
    ),
    fault="a pod repeatedly requests a certificate for another pod",
    board="certificates",
    cases=(
        fires(
            {of(metrics.SIGNING_REQUESTS, "operator", "o1", result="AnotherPod"): Grows(2)},
            at="30m",
            labels={"namespace": "fleet", "result": "AnotherPod"},
            says=(
                "signing requests in fleet are denied: AnotherPod",
                (
                    "Within the last 15 minutes, the operator in fleet denied 30 signing "
                    "requests with the result AnotherPod."
                ),
            ),
        ),
        silent(
            {of(metrics.SIGNING_REQUESTS, "operator", "o1", result="signed"): Grows(20)}, at="1h"
        ),
    ),
)
