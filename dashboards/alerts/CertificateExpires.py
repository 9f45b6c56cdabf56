"""Alert: a certificate is about to expire."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.certificate_lifetimes import little_left
from dashboards.rules import PAGE, Alert, Holds
from midstreamer.telemetry import metrics

SHARE_MAX, LEFT_MAX = 0.1, "7d"

ALERT = Alert(
    name="CertificateExpires",
    expression=lambda over: little_left(SHARE_MAX, LEFT_MAX, over),
    wait="5m",
    severity=PAGE,
    summary="the certificate of {{ $labels.component }} {{ $labels.pod }} expires soon",
    description=(
        "{{ $value | humanizePercentage }} of the validity of the certificate of "
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} is "
        "left. After it expires, peers refuse connections to and from this "
        "process."
    ),
    fault="the certificate of an agent expires in two minutes and cannot be renewed",
    board="certificates",
    cases=(
        fires(
            {
                of(metrics.CERTIFICATE_BEGIN_S, "agent", "a1"): Holds(0.001),
                of(metrics.CERTIFICATE_EXPIRY_S, "agent", "a1"): Holds(86400),
            },
            at="23h",
            labels=target("agent", "a1"),
            says=(
                "the certificate of agent a1 expires soon",
                (
                    "4.167% of the validity of the certificate of agent a1 in fleet is left. "
                    "After it expires, peers refuse connections to and from this process."
                ),
            ),
        ),
        silent(
            {
                of(metrics.CERTIFICATE_BEGIN_S, "agent", "a1"): Holds(0.001),
                of(metrics.CERTIFICATE_EXPIRY_S, "agent", "a1"): Holds(86400),
            },
            at="21h",
        ),
        silent(
            {
                of(metrics.CERTIFICATE_BEGIN_S, "operator", "o1"): Holds(0),
                of(metrics.CERTIFICATE_EXPIRY_S, "operator", "o1"): Holds(0),
            },
            at="21h",
            what="a process without a certificate",
        ),
    ),
)
