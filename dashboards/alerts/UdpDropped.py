"""The kernel drops datagrams."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
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
        "{{ $value | humanize }} datagrams a second to {{ $labels.component }} {{"
        " $labels.pod }} of {{ $labels.namespace }} find its receive buffer full."
    ),
    fault="datagrams pour on coordinators that halt",
    board="transport",
    cases=(
        fires(
            {of(metrics.UDP_DROPPED, "coordinator", "c1"): Grows(300)},
            at="20m",
            labels={"namespace": "fleet", "component": "coordinator", "pod": "c1"},
            says=(
                "the kernel drops datagrams to coordinator c1",
                "5 datagrams a second to coordinator c1 of fleet find its receive buffer full.",
            ),
        ),
        silent({of(metrics.UDP_DROPPED, "coordinator", "c1"): Grows(6)}, at="1h"),
    ),
)
