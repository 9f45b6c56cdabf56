"""Alert: a certificate was not renewed in time."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.certificate_lifetimes import little_left
from dashboards.rules import TICKET, Alert, Holds
from midstreamer.telemetry import metrics

SHARE_MAX, LEFT_MAX = 0.25, "25d"

ALERT = Alert(
    name="RenewalStuck",
    expression=lambda over: little_left(SHARE_MAX, LEFT_MAX, over),
    wait="15m",
    severity=TICKET,
    summary="the certificate of {{ $labels.component }} {{ $labels.pod }} is not renewed",
    description=(
        "{{ $value | humanizePercentage }} of the validity of the certificate of "
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} is "
        "left. It should have been renewed when one third was left."
    ),
    fault="the certificate of an agent expires in two minutes and cannot be renewed",
    board="certificates",
    cases=(
        fires(
            {
                of(metrics.CERTIFICATE_BEGIN_S, "agent", "a1"): Holds(0.001),
                of(metrics.CERTIFICATE_EXPIRY_S, "agent", "a1"): Holds(86400),
            },
            at="20h",
            labels=target("agent", "a1"),
            says=(
                "the certificate of agent a1 is not renewed",
                (
                    "16.67% of the validity of the certificate of agent a1 in fleet is left. "
                    "It should have been renewed when one third was left."
                ),
            ),
        ),
        silent(
            {
                of(metrics.CERTIFICATE_BEGIN_S, "agent", "a1"): Holds(0.001),
                of(metrics.CERTIFICATE_EXPIRY_S, "agent", "a1"): Holds(86400),
            },
            at="17h",
        ),
    ),
)
