"""Peers send what they may not."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
from dashboards.rules import TICKET, Alert, Grows, Holds, increase
from midstreamer.telemetry import metrics

MOST = 3


def _refused(over: str) -> str:
    by = ("namespace", "component", "kind", "frame")
    return increase(metrics.REFUSED_FRAMES, over, *by)


ALERT = Alert(
    name="FramesDenied",
    expression=lambda over: f"{_refused(over('15m'))} > {MOST}",
    wait="1m",
    severity=TICKET,
    summary="a {{ $labels.kind }} sends {{ $labels.frame }}, which it may not",
    description=(
        "{{ $value | humanize }} frames {{ $labels.frame }} of a {{ $labels.kind "
        "}} have closed its connections to {{ $labels.component }} of {{ "
        "$labels.namespace }} within a quarter of an hour."
    ),
    fault="a client sends frames of an agent",
    board="transport",
    cases=(
        fires(
            {
                of(
                    metrics.REFUSED_FRAMES, "coordinator", "c1", kind="client", frame="Write"
                ): Grows(2)
            },
            at="30m",
            labels={
                "namespace": "fleet",
                "component": "coordinator",
                "kind": "client",
                "frame": "Write",
            },
            says=(
                "a client sends Write, which it may not",
                (
                    "30 frames Write of a client have closed its connections to"
                    " coordinator of fleet within a quarter of an hour."
                ),
            ),
        ),
        silent(
            {
                of(
                    metrics.REFUSED_FRAMES, "coordinator", "c1", kind="client", frame="Write"
                ): Holds(7)
            },
            at="1h",
            what="long ago",
        ),
    ),
)
