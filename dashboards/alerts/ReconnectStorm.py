"""Alert: peers connect to a component again and again."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import total
from dashboards.rules import TICKET, Alert, Grows, Holds, ours, rate
from midstreamer.telemetry import label_values, metrics

RATE_MAX, EACH_MAX = 5, 0.05


def _connects(over: str) -> str:
    return rate(metrics.HANDSHAKES, over, "namespace", "component", result=label_values.ACCEPTED)


ALERT = Alert(
    name="ReconnectStorm",
    expression=lambda over: (
        f"{_connects(over('5m'))} > {RATE_MAX} and {_connects(over('5m'))} > {EACH_MAX} *"
        f" {total(ours(metrics.LINKS), 'namespace', 'component')}"
    ),
    wait="10m",
    severity=TICKET,
    summary="peers of {{ $labels.component }} in {{ $labels.namespace }} connect again and again",
    description=(
        "{{ $labels.component }} in {{ $labels.namespace }} has accepted "
        "{{ $value | humanize }} connections per second for ten minutes. That is "
        "more than one per second for every 20 open connections."
    ),
    fault="clients connect and disconnect again and again",
    board="transport",
    cases=(
        fires(
            {
                of(metrics.HANDSHAKES, "coordinator", "c1", result="accepted"): Grows(600),
                of(metrics.LINKS, "coordinator", "c1", kind="client"): Holds(20),
            },
            at="25m",
            labels={"namespace": "fleet", "component": "coordinator"},
            says=(
                "peers of coordinator in fleet connect again and again",
                (
                    "coordinator in fleet has accepted 10 connections per second for ten "
                    "minutes. That is more than one per second for every 20 open connections."
                ),
            ),
        ),
        silent(
            {
                of(metrics.HANDSHAKES, "coordinator", "c1", result="accepted"): Grows(600),
                of(metrics.LINKS, "coordinator", "c1", kind="client"): Holds(1000),
            },
            at="1h",
            what="many clients are connected",
        ),
        silent(
            {
                of(metrics.HANDSHAKES, "coordinator", "c1", result="accepted"): Grows(6),
                of(metrics.LINKS, "coordinator", "c1", kind="client"): Holds(2),
            },
            at="1h",
            what="few connections are opened",
        ),
    ),
)
