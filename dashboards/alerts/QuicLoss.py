"""Alert: a large share of the QUIC packets that a process sends are lost."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.rules import TICKET, Alert, Grows, rate
from midstreamer.telemetry import metrics

SHARE_MAX, SENT_MIN = 0.02, 10
"""The alert fires if the share of lost packets and the packets sent per second exceed these limits.

``SHARE_MAX`` is low, because QUIC counts only few of the dropped packets as lost. It counts a
packet as lost if later packets are acknowledged. If no packet follows for a while, the dropped
packet is sent again by a probe. Such a packet counts as probed, not as lost.

In a test the network dropped 30 % of the packets from coordinators to half of their peers. Then 4 %
of the sent packets counted as lost. In a healthy fleet up to 0.9 % of them do.
"""


def _packets(over: str, fate: str) -> str:
    return rate(metrics.QUIC_PACKETS, over, "namespace", "component", "pod", fate=fate)


ALERT = Alert(
    name="QuicLoss",
    expression=lambda over: (
        f"{_packets(over('5m'), 'lost')} / {_packets(over('5m'), 'sent')} > {SHARE_MAX}"
        f" and {_packets(over('5m'), 'sent')} > {SENT_MIN}"
    ),
    wait="10m",
    severity=TICKET,
    summary="packets that {{ $labels.component }} {{ $labels.pod }} sends are lost",
    description=(
        "{{ $value | humanizePercentage }} of the QUIC packets that "
        "{{ $labels.component }} {{ $labels.pod }} in {{ $labels.namespace }} "
        "sends are lost."
    ),
    fault="the network loses packets of the coordinators",
    board="transport",
    cases=(
        fires(
            {
                of(metrics.QUIC_PACKETS, "coordinator", "c1", fate="sent"): Grows(6000),
                of(metrics.QUIC_PACKETS, "coordinator", "c1", fate="lost"): Grows(600),
            },
            at="20m",
            labels={"namespace": "fleet", "component": "coordinator", "pod": "c1"},
            says=(
                "packets that coordinator c1 sends are lost",
                "10% of the QUIC packets that coordinator c1 in fleet sends are lost.",
            ),
        ),
        silent(
            {
                of(metrics.QUIC_PACKETS, "coordinator", "c1", fate="sent"): Grows(6000),
                of(metrics.QUIC_PACKETS, "coordinator", "c1", fate="lost"): Grows(6),
            },
            at="1h",
        ),
        silent(
            {
                of(metrics.QUIC_PACKETS, "coordinator", "c1", fate="sent"): Grows(60),
                of(metrics.QUIC_PACKETS, "coordinator", "c1", fate="lost"): Grows(30),
            },
            at="1h",
            what="few packets are sent",
        ),
    ),
)
