"""Alert: a component refuses many connections."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import none_of
from dashboards.rules import TICKET, Alert, Grows, rate
from midstreamer.telemetry import label_values, metrics

RATE_MAX = 2


def _refused(over: str) -> str:
    by, refused = ("namespace", "component", "result"), none_of(label_values.ACCEPTED)
    return rate(metrics.HANDSHAKES, over, *by, result=refused)


ALERT = Alert(
    name="HandshakesRefused",
    expression=lambda over: f"{_refused(over('5m'))} > {RATE_MAX}",
    wait="10m",
    severity=TICKET,
    summary=(
        "{{ $labels.component }} in {{ $labels.namespace }} refuses many "
        "connections: {{ $labels.result }}"
    ),
    description=(
        "{{ $labels.component }} in {{ $labels.namespace }} refuses "
        "{{ $value | humanize }} connections per second with the result "
        "{{ $labels.result }}."
    ),
    fault="clients that are on no allowlist connect again and again",
    board="transport",
    cases=(
        fires(
            {
                of(metrics.HANDSHAKES, "coordinator", "c1", result="not_allowed"): Grows(180),
                of(metrics.HANDSHAKES, "coordinator", "c2", result="not_allowed"): Grows(180),
            },
            at="25m",
            labels={"namespace": "fleet", "component": "coordinator", "result": "not_allowed"},
            says=(
                "coordinator in fleet refuses many connections: not_allowed",
                (
                    "coordinator in fleet refuses 6 connections per second with the result "
                    "not_allowed."
                ),
            ),
        ),
        silent(
            {of(metrics.HANDSHAKES, "coordinator", "c1", result="not_allowed"): Grows(30)}, at="1h"
        ),
        silent(
            {of(metrics.HANDSHAKES, "coordinator", "c1", result="accepted"): Grows(600)},
            at="1h",
            what="the connections are accepted",
        ),
    ),
)
