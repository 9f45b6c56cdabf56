"""Many signing requests are denied."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
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
    summary=("signing requests of {{ $labels.namespace }} are denied: {{ $labels.result }}"),
    description=(
        "{{ $value | humanize }} signing requests of {{ $labels.namespace }} have"
        " been denied with {{ $labels.result }} within a quarter of an hour."
    ),
    fault="a pod asks for the certificate of another, each second",
    board="certificates",
    cases=(
        fires(
            {of(metrics.SIGNING_REQUESTS, "operator", "o1", result="AnotherPod"): Grows(2)},
            at="30m",
            labels={"namespace": "fleet", "result": "AnotherPod"},
            says=(
                "signing requests of fleet are denied: AnotherPod",
                (
                    "30 signing requests of fleet have been denied with AnotherPod"
                    " within a quarter of an hour."
                ),
            ),
        ),
        silent(
            {of(metrics.SIGNING_REQUESTS, "operator", "o1", result="signed"): Grows(20)}, at="1h"
        ),
    ),
)
