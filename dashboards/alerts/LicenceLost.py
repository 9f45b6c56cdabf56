"""Alert: no learning stream of a universe holds the licence to give signals any more."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import largest, total
from dashboards.rules import TICKET, Alert, Holds, Written, ours
from midstreamer.telemetry import metrics


def _streams(held: str) -> str:
    return ours(metrics.LICENCES, held=held)


def _held_once(over: str) -> str:
    return f"max_over_time({_streams('true')}[{over}])"


ALERT = Alert(
    name="LicenceLost",
    expression=lambda over: (
        f"{largest(_held_once(over('1d')), 'namespace', 'universe')} > 0"
        f" and on (namespace, universe) {total(_streams('false'), 'namespace', 'universe')} > 0"
        f" unless on (namespace, universe) {total(_streams('true'), 'namespace', 'universe')} > 0"
    ),
    wait="1h",
    severity=TICKET,
    summary=(
        "no stream of {{ $labels.universe }} in {{ $labels.namespace }} holds "
        "the licence to give signals"
    ),
    description=(
        "Within the last day, up to {{ $value }} streams of "
        "{{ $labels.universe }} in {{ $labels.namespace }} held the licence to "
        "give signals. Now none of them holds it."
    ),
    fault="the outcomes of confident decisions are the opposite of their forecasts",
    board="reasoning",
    cases=(
        fires(
            {
                of(metrics.LICENCES, "sync", "s1", universe="plant", held="true"): Written(
                    "4x60 stale"
                ),
                of(metrics.LICENCES, "sync", "s1", universe="plant", held="false"): Holds(4),
            },
            at="3h",
            labels={"namespace": "fleet", "universe": "plant"},
            says=(
                "no stream of plant in fleet holds the licence to give signals",
                (
                    "Within the last day, up to 4 streams of plant in fleet held the licence "
                    "to give signals. Now none of them holds it."
                ),
            ),
        ),
        silent(
            {
                of(metrics.LICENCES, "sync", "s1", universe="plant", held="true"): Holds(1),
                of(metrics.LICENCES, "sync", "s1", universe="plant", held="false"): Holds(3),
            },
            at="3h",
            what="one stream holds the licence",
        ),
        silent(
            {of(metrics.LICENCES, "sync", "s1", universe="plant", held="false"): Holds(3)},
            at="3h",
            what="no stream ever held the licence",
        ),
    ),
)
