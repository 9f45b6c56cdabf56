"""Requests fail, slowly."""

from __future__ import annotations

from dashboards.burning import TICKETS, answers, burn
from dashboards.cases import fires, silent
from dashboards.recordings import AVAILABILITY
from dashboards.rules import TICKET, Alert

ALERT = Alert(
    name="AvailabilityBurnSlow",
    expression=lambda over: burn(AVAILABILITY, TICKETS, over),
    wait="15m",
    severity=TICKET,
    summary="requests to {{ $labels.namespace }} fail too often",
    description=(
        "{{ $value | humanizePercentage }} of the requests to {{ "
        "$labels.namespace }} have failed by a fault of the server; 0.1% may."
    ),
    fault="PostgreSQL is stopped while clients append",
    board="slo",
    cases=(
        fires(
            {**answers("Match", "ok", 99.5), **answers("Match", "store", 0.5)},
            at="30h",
            labels={"namespace": "fleet", "slo": "availability"},
            says=(
                "requests to fleet fail too often",
                "0.5% of the requests to fleet have failed by a fault of the server; 0.1% may.",
            ),
        ),
        silent(
            {**answers("Match", "ok", 100), **answers("Match", "store", 0.02)},
            at="30h",
            what="within the budget",
        ),
        silent(
            {**answers("Match", "ok", 98), **answers("Append", "bad_input", 50)},
            at="30h",
            what="mistakes of those who ask",
        ),
        silent({**answers("Match", "store", 0.01)}, at="30h", what="few requests"),
    ),
)
