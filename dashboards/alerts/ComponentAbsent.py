"""No process of one kind is there."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
from dashboards.promql import number_of
from dashboards.rules import PAGE, Alert, Holds, ours
from dashboards.series import UP


def _absent(component: str) -> str:
    there = number_of(ours(UP), "namespace")
    seen = f"{there} unless on (namespace) ({ours(UP, component=component)} == 1)"
    return f'label_replace({seen}, "component", "{component}", "", "")'


ALERT = Alert(
    name="ComponentAbsent",
    expression=lambda _: " or ".join(_absent(each) for each in ("sync", "coordinator", "agent")),
    wait="3m",
    severity=PAGE,
    summary="no {{ $labels.component }} in {{ $labels.namespace }} is reached",
    description=(
        "Of the {{ $value }} processes of {{ $labels.namespace }} that Prometheus"
        " knows, no {{ $labels.component }} answers."
    ),
    fault="every coordinator is killed",
    board="fleet",
    cases=(
        fires(
            {
                of(UP, "agent", "a1"): Holds(1),
                of(UP, "sync", "s1"): Holds(0),
                of(UP, "coordinator", "c1"): Holds(1),
            },
            at="4m",
            labels={"namespace": "fleet", "component": "sync"},
            says=(
                "no sync in fleet is reached",
                "Of the 3 processes of fleet that Prometheus knows, no sync answers.",
            ),
        ),
        fires(
            {of(UP, "agent", "a1"): Holds(1), of(UP, "sync", "s1"): Holds(1)},
            at="4m",
            labels={"namespace": "fleet", "component": "coordinator"},
            what="no target at all",
            says=(
                "no coordinator in fleet is reached",
                "Of the 2 processes of fleet that Prometheus knows, no coordinator answers.",
            ),
        ),
        silent(
            {
                of(UP, "agent", "a1"): Holds(1),
                of(UP, "sync", "s1"): Holds(1),
                of(UP, "sync", "s2"): Holds(0),
                of(UP, "coordinator", "c1"): Holds(1),
            },
            at="1h",
            what="one of two is there",
        ),
    ),
)
