"""Alert: a component drops spans instead of exporting them."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
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
    summary="{{ $labels.component }} in {{ $labels.namespace }} drops spans",
    description=(
        "{{ $labels.component }} in {{ $labels.namespace }} drops "
        "{{ $value | humanizePercentage }} of its spans. Traces are incomplete."
    ),
    fault="spans are exported to a collector that does not exist",
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
                "agent in fleet drops spans",
                "agent in fleet drops 50% of its spans. Traces are incomplete.",
            ),
        ),
        silent({of(metrics.SPANS, "agent", "a1", result="exported"): Grows(60)}, at="1h"),
        silent(
            {of(metrics.SPANS, "agent", "a1", result="dropped"): Holds(60)},
            at="1h",
            what="no span is sampled",
        ),
    ),
)
