"""Processes trust different authorities."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
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
    summary="processes of {{ $labels.namespace }} trust different authorities",
    description=(
        "Not every process of {{ $labels.namespace }} has the same bundle: the "
        "largest hash is {{ $value }}."
    ),
    fault="an authority is added to the bundle of the agents alone",
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
                "processes of fleet trust different authorities",
                "Not every process of fleet has the same bundle: the largest hash is 12.",
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
            what="a process without a bundle",
        ),
        silent(
            {
                of(metrics.BUNDLE_HASH, "sync", "s1"): Written("11x5 12x30"),
                of(metrics.BUNDLE_HASH, "agent", "a1"): Written("11x12 12x30"),
            },
            at="14m",
            what="a bundle on its way",
        ),
    ),
)
