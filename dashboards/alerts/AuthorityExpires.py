"""An authority ends soon."""

from __future__ import annotations

from dashboards.cases import fires, of, silent, target
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
    summary=("an authority that {{ $labels.component }} {{ $labels.pod }} trusts ends soon"),
    description=(
        "An authority that {{ $labels.component }} {{ $labels.pod }} of {{ "
        "$labels.namespace }} trusts ends in {{ $value | humanizeDuration }}: "
        "what it signed ends with it."
    ),
    fault="an authority that lives for an hour is added to the bundle of the agents",
    board="certificates",
    cases=(
        fires(
            {of(metrics.AUTHORITY_EXPIRY_S, "sync", "s1"): Holds(86400)},
            at="2h",
            labels=target("sync", "s1"),
            says=(
                "an authority that sync s1 trusts ends soon",
                (
                    "An authority that sync s1 of fleet trusts ends in 22h 0m 0s: what"
                    " it signed ends with it."
                ),
            ),
        ),
        silent({of(metrics.AUTHORITY_EXPIRY_S, "sync", "s1"): Holds(8640000)}, at="3h"),
        silent(
            {of(metrics.AUTHORITY_EXPIRY_S, "operator", "o1"): Holds(0)},
            at="3h",
            what="a replica that knows of none",
        ),
    ),
)
