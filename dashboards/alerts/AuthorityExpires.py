"""Alert: a certificate authority that a process trusts expires within 30 days."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent, target
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics

LEFT_MAX = "30d"

ALERT = Alert(
    name="AuthorityExpires",
    expression=lambda over: (
        f"({ours(metrics.AUTHORITY_EXPIRY_S)} > 0) - time() < {over.seconds(LEFT_MAX):g}"
    ),
    wait="15m",
    severity=TICKET,
    summary="an authority that {{ $labels.component }} {{ $labels.pod }} trusts expires soon",
    description=(
        "An authority that {{ $labels.component }} {{ $labels.pod }} in "
        "{{ $labels.namespace }} trusts expires in "
        "{{ $value | humanizeDuration }}. Certificates that this authority "
        "signed are not accepted after that."
    ),
    fault="one agent is given a bundle with an additional authority that expires soon",
    board="certificates",
    cases=(
        fires(
            {of(metrics.AUTHORITY_EXPIRY_S, "sync", "s1"): Holds(86400)},
            at="2h",
            labels=target("sync", "s1"),
            says=(
                "an authority that sync s1 trusts expires soon",
                (
                    "An authority that sync s1 in fleet trusts expires in 22h 0m 0s. "
                    "Certificates that this authority signed are not accepted after that."
                ),
            ),
        ),
        silent({of(metrics.AUTHORITY_EXPIRY_S, "sync", "s1"): Holds(8640000)}, at="3h"),
        silent(
            {of(metrics.AUTHORITY_EXPIRY_S, "operator", "o1"): Holds(0)},
            at="3h",
            what="a replica that trusts no authority yet",
        ),
    ),
)
