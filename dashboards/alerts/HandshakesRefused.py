"""Many are turned away."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
from dashboards.promql import none_of
from dashboards.rules import TICKET, Alert, Grows, rate
from midstreamer.telemetry import metrics, words

RATE_MAX = 2


def _refused(over: str) -> str:
    by, refused = ("namespace", "component", "result"), none_of(words.ACCEPTED)
    return rate(metrics.HANDSHAKES, over, *by, result=refused)


ALERT = Alert(
    name="HandshakesRefused",
    expression=lambda over: f"{_refused(over('5m'))} > {RATE_MAX}",
    wait="10m",
    severity=TICKET,
    summary=(
        "{{ $labels.component }} of {{ $labels.namespace }} turns many away: {{ $labels.result }}"
    ),
    description=(
        "{{ $value | humanize }} connections a second to {{ $labels.component }} "
        "of {{ $labels.namespace }} are refused with {{ $labels.result }}."
    ),
    fault="clients that are on no allowlist connect all the time",
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
                "coordinator of fleet turns many away: not_allowed",
                "6 connections a second to coordinator of fleet are refused with not_allowed.",
            ),
        ),
        silent(
            {of(metrics.HANDSHAKES, "coordinator", "c1", result="not_allowed"): Grows(30)}, at="1h"
        ),
        silent(
            {of(metrics.HANDSHAKES, "coordinator", "c1", result="accepted"): Grows(600)},
            at="1h",
            what="they are let in",
        ),
    ),
)
