"""Spans are dropped."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
from dashboards.rules import TICKET, Alert, Grows, Holds, rate
from midstreamer.telemetry import metrics

SHARE_MAX = 0.05


def _spans(over: str, result: str = "") -> str:
    chosen = {"result": result} if result else {}
    return rate(metrics.SPANS, over, "namespace", "component", **chosen)


ALERT = Alert(
    name="SpansDropped",
    expression=lambda over: f"{_spans(over('5m'), 'dropped')} / {_spans(over('5m'))} > {SHARE_MAX}",
    wait="15m",
    severity=TICKET,
    summary="spans of {{ $labels.component }} in {{ $labels.namespace }} are dropped",
    description=(
        "{{ $value | humanizePercentage }} of the spans of {{ $labels.component "
        "}} in {{ $labels.namespace }} are dropped: traces have holes."
    ),
    fault="spans are exported to a collector that is not there",
    board="fleet",
    cases=(
        fires(
            {
                of(metrics.SPANS, "agent", "a1", result="exported"): Grows(60),
                of(metrics.SPANS, "agent", "a1", result="dropped"): Grows(60),
            },
            at="30m",
            labels={"namespace": "fleet", "component": "agent"},
            says=(
                "spans of agent in fleet are dropped",
                "50% of the spans of agent in fleet are dropped: traces have holes.",
            ),
        ),
        silent({of(metrics.SPANS, "agent", "a1", result="exported"): Grows(60)}, at="1h"),
        silent(
            {of(metrics.SPANS, "agent", "a1", result="dropped"): Holds(60)},
            at="1h",
            what="nothing is sampled",
        ),
    ),
)
