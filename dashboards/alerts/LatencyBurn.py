"""Answers are late, by far."""

from __future__ import annotations

from dashboards.burning import PAGES, answers, burn, in_time
from dashboards.cases import fires, silent
from dashboards.recordings import LATENCY
from dashboards.rules import PAGE, Alert

ALERT = Alert(
    name="LatencyBurn",
    expression=lambda over: burn(LATENCY, PAGES, over),
    wait="2m",
    severity=PAGE,
    summary="requests to {{ $labels.namespace }} are answered too late",
    description=(
        "{{ $value | humanizePercentage }} of the answers of {{ $labels.namespace"
        " }} came too late; 1% may."
    ),
    fault="the agents are frozen again and again",
    board="slo",
    cases=(
        fires(
            {**answers("Match", "ok", 100), **in_time("Match", 75)},
            at="2h",
            labels={"namespace": "fleet", "slo": "latency"},
            says=(
                "requests to fleet are answered too late",
                "25% of the answers of fleet came too late; 1% may.",
            ),
        ),
        silent(
            {
                **answers("Match", "ok", 100),
                **in_time("Match", 100),
                **answers("Append", "ok", 50),
                **in_time("Append", 50),
            },
            at="2h",
        ),
        silent({**answers("Match", "store", 100)}, at="2h", what="failures are another objective"),
        silent(
            {**answers("Append", "ok", 0.01), **in_time("Append", 0)}, at="2h", what="few requests"
        ),
    ),
)
