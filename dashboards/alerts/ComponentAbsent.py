"""Alert: Prometheus reaches no process of a component."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import number_of
from dashboards.rules import PAGE, Alert, Holds, ours
from dashboards.uncatalogued_series import UP


def _absent(component: str) -> str:
    there = number_of(ours(UP), "namespace")
    seen = f"{there} unless on (namespace) ({ours(UP, component=component)} == 1)"
    return f'label_replace({seen}, "component", "{component}", "", "")'


ALERT = Alert(
    name="ComponentAbsent",
    expression=lambda _: " or ".join(_absent(each) for each in ("sync", "coordinator", "agent")),
    wait="3m",
    severity=PAGE,
    summary="no {{ $labels.component }} in {{ $labels.namespace }} is reachable",
    description=(
        "Prometheus knows {{ $value }} processes in {{ $labels.namespace }}, but "
        "none of them is a {{ $labels.component }} that answers."
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
                "no sync in fleet is reachable",
                ("Prometheus knows 3 processes in fleet, but none of them is a sync that answers."),
            ),
        ),
        fires(
            {of(UP, "agent", "a1"): Holds(1), of(UP, "sync", "s1"): Holds(1)},
            at="4m",
            labels={"namespace": "fleet", "component": "coordinator"},
            what="the component has no target",
            says=(
                "no coordinator in fleet is reachable",
                (
                    "Prometheus knows 2 processes in fleet, but none of them is a "
                    "coordinator that answers."
                ),
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
            what="one of two processes answers",
        ),
    ),
)
