"""Alert: the kernel drops datagrams because a receive buffer is full."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.rules import TICKET, Alert, Grows, rate
from midstreamer.telemetry import metrics

RATE_MAX = 1
ALERT = Alert(
    name="UdpDropped",
    expression=lambda over: (
        f"{rate(metrics.UDP_DROPPED, over('5m'), 'namespace', 'component', 'pod')} > {RATE_MAX}"
    ),
    wait="10m",
    severity=TICKET,
    summary="the kernel drops datagrams to {{ $labels.component }} {{ $labels.pod }}",
    description=(
        "The kernel drops {{ $value | humanize }} datagrams per second to "
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "because the receive buffer of its socket is full."
    ),
    fault="coordinators are flooded with datagrams while they are frozen repeatedly",
    board="transport",
    cases=(
        fires(
            {of(metrics.UDP_DROPPED, "coordinator", "c1"): Grows(300)},
            at="20m",
            labels={"namespace": "fleet", "component": "coordinator", "pod": "c1"},
            says=(
                "the kernel drops datagrams to coordinator c1",
                (
                    "The kernel drops 5 datagrams per second to coordinator c1 in fleet "
                    "because the receive buffer of its socket is full."
                ),
            ),
        ),
        silent({of(metrics.UDP_DROPPED, "coordinator", "c1"): Grows(6)}, at="1h"),
    ),
)
