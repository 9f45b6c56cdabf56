"""Answers are late, slowly."""

from __future__ import annotations

from dashboards.burning import TICKETS, answers, burn, in_time
from dashboards.cases import fires, silent
from dashboards.recordings import LATENCY
from dashboards.rules import TICKET, Alert

ALERT = Alert(
    name="LatencyBurnSlow",
    expression=lambda over: burn(LATENCY, TICKETS, over),
    wait="15m",
    severity=TICKET,
    summary="requests to {{ $labels.namespace }} are answered too late",
    description=(
        "{{ $value | humanizePercentage }} of the answers of {{ $labels.namespace"
        " }} came too late; 1% may."
    ),
    fault="the agents are frozen again and again",
    board="slo",
    cases=(
        fires(
            {**answers("Match", "ok", 100), **in_time("Match", 95)},
            at="30h",
            labels={"namespace": "fleet", "slo": "latency"},
            says=(
                "requests to fleet are answered too late",
                "5% of the answers of fleet came too late; 1% may.",
            ),
        ),
        silent(
            {
                **answers("Match", "ok", 100),
                **in_time("Match", 100),
                **answers("Append", "ok", 50),
                **in_time("Append", 50),
            },
            at="30h",
        ),
        silent({**answers("Match", "store", 100)}, at="30h", what="failures are another objective"),
        silent(
            {**answers("Append", "ok", 0.01), **in_time("Append", 0)}, at="30h", what="few requests"
        ),
    ),
)
