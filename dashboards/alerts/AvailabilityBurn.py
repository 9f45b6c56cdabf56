"""Requests fail, fast."""

from __future__ import annotations

from dashboards.burning import PAGES, answers, burn
from dashboards.cases import fires, silent
from dashboards.recordings import AVAILABILITY
from dashboards.rules import PAGE, Alert

ALERT = Alert(
    name="AvailabilityBurn",
    expression=lambda over: burn(AVAILABILITY, PAGES, over),
    wait="2m",
    severity=PAGE,
    summary="requests to {{ $labels.namespace }} fail too often",
    description=(
        "{{ $value | humanizePercentage }} of the requests to {{ "
        "$labels.namespace }} have failed by a fault of the server; 0.1% may."
    ),
    fault="PostgreSQL is stopped while clients append",
    board="slo",
    cases=(
        fires(
            {**answers("Match", "ok", 96), **answers("Match", "store", 4)},
            at="2h",
            labels={"namespace": "fleet", "slo": "availability"},
            says=(
                "requests to fleet fail too often",
                "4% of the requests to fleet have failed by a fault of the server; 0.1% may.",
            ),
        ),
        silent(
            {**answers("Match", "ok", 100), **answers("Match", "store", 0.02)},
            at="2h",
            what="within the budget",
        ),
        silent(
            {**answers("Match", "ok", 98), **answers("Append", "bad_input", 50)},
            at="2h",
            what="mistakes of those who ask",
        ),
        silent({**answers("Match", "store", 0.01)}, at="2h", what="few requests"),
    ),
)
