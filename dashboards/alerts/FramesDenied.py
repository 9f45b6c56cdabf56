"""Alert: peers send frames that their kind of identity is not allowed to send."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
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
    summary=(
        "a {{ $labels.kind }} sends {{ $labels.frame }} frames, which it is not allowed to send"
    ),
    description=(
        "Within the last 15 minutes, {{ $labels.component }} in "
        "{{ $labels.namespace }} closed connections because a {{ $labels.kind }} "
        "sent {{ $labels.frame }}, which a {{ $labels.kind }} is not allowed to "
        "send. Number of these frames: {{ $value | humanize }}."
    ),
    fault="a client sends frames that only a coordinator may send",
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
                "a client sends Write frames, which it is not allowed to send",
                (
                    "Within the last 15 minutes, coordinator in fleet closed connections "
                    "because a client sent Write, which a client is not allowed to send. "
                    "Number of these frames: 30."
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
            what="the frames were sent long ago",
        ),
    ),
)
