"""Signing requests are not answered."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
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
    summary=("{{ $value }} signing requests of {{ $labels.namespace }} are not answered"),
    description=(
        "The operator of {{ $labels.namespace }} could not answer {{ $value }} "
        "signing requests for a quarter of an hour: as many pods or clients wait "
        "for certificates."
    ),
    fault="the API server takes no answer to a request",
    board="certificates",
    cases=(
        fires(
            {of(metrics.SIGNING_REQUESTS_WAITING, "operator", "o1"): Holds(2)},
            at="16m",
            labels={"namespace": "fleet"},
            says=(
                "2 signing requests of fleet are not answered",
                (
                    "The operator of fleet could not answer 2 signing requests for a"
                    " quarter of an hour: as many pods or clients wait for certificates."
                ),
            ),
        ),
        silent({of(metrics.SIGNING_REQUESTS_WAITING, "operator", "o1"): Holds(0)}, at="1h"),
    ),
)
