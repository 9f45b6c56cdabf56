"""Alert: the operator does not answer certificate signing requests."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import largest
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="SigningRequestsWaiting",
    expression=lambda _: (
        f"{largest(ours(metrics.SIGNING_REQUESTS_WAITING, component='operator'), 'namespace')} > 0"
    ),
    wait="15m",
    severity=TICKET,
    summary="{{ $value }} signing requests in {{ $labels.namespace }} are not answered",
    description=(
        "The operator in {{ $labels.namespace }} has left signing requests "
        "without an answer for 15 minutes. Pods or clients that wait for a "
        "certificate: {{ $value }}."
    ),
    fault="the API server rejects every answer to a signing request",
    board="certificates",
    cases=(
        fires(
            {of(metrics.SIGNING_REQUESTS_WAITING, "operator", "o1"): Holds(2)},
            at="16m",
            labels={"namespace": "fleet"},
            says=(
                "2 signing requests in fleet are not answered",
                (
                    "The operator in fleet has left signing requests without an answer for "
                    "15 minutes. Pods or clients that wait for a certificate: 2."
                ),
            ),
        ),
        silent({of(metrics.SIGNING_REQUESTS_WAITING, "operator", "o1"): Holds(0)}, at="1h"),
    ),
)
