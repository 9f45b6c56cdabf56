"""Alert: processes of one fleet trust different sets of certificate authorities."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import among, largest, smallest
from dashboards.rules import TICKET, Alert, Holds, Written, ours
from midstreamer.telemetry import metrics


def _hash() -> str:
    members = among("sync", "coordinator", "agent", "postgres")
    return f"{ours(metrics.BUNDLE_HASH, component=members)} > 0"


ALERT = Alert(
    name="BundleSkew",
    expression=lambda _: f"{largest(_hash(), 'namespace')} != {smallest(_hash(), 'namespace')}",
    wait="15m",
    severity=TICKET,
    summary="processes in {{ $labels.namespace }} trust different authorities",
    description=(
        "The processes in {{ $labels.namespace }} do not all have the same trust "
        "bundle. The largest bundle hash is {{ $value }}."
    ),
    fault="one agent is given a bundle with an additional authority",
    board="certificates",
    cases=(
        fires(
            {
                of(metrics.BUNDLE_HASH, "sync", "s1"): Holds(11),
                of(metrics.BUNDLE_HASH, "agent", "a1"): Holds(12),
            },
            at="16m",
            labels={"namespace": "fleet"},
            says=(
                "processes in fleet trust different authorities",
                (
                    "The processes in fleet do not all have the same trust bundle. The "
                    "largest bundle hash is 12."
                ),
            ),
        ),
        silent(
            {
                of(metrics.BUNDLE_HASH, "sync", "s1"): Holds(11),
                of(metrics.BUNDLE_HASH, "agent", "a1"): Holds(11),
            },
            at="1h",
        ),
        silent(
            {
                of(metrics.BUNDLE_HASH, "sync", "s1"): Holds(11),
                of(metrics.BUNDLE_HASH, "operator", "o1"): Holds(0),
            },
            at="1h",
            what="a process has no bundle",
        ),
        silent(
            {
                of(metrics.BUNDLE_HASH, "sync", "s1"): Written("11x5 12x30"),
                of(metrics.BUNDLE_HASH, "agent", "a1"): Written("11x12 12x30"),
            },
            at="14m",
            what="a new bundle is being distributed",
        ),
    ),
)
