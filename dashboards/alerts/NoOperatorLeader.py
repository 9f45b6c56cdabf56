"""Alert: no replica of the operator holds the Kubernetes Lease, so none is the leader."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import largest, number_of
from dashboards.rules import TICKET, Alert, Holds, Written, ours
from dashboards.uncatalogued_series import UP
from midstreamer.telemetry import metrics

ALERT = Alert(
    name="NoOperatorLeader",
    expression=lambda _: (
        f"{number_of(ours(UP, component='operator'), 'namespace')} unless on (namespace)"
        f" ({largest(ours(metrics.OPERATOR_LEADER, component='operator'), 'namespace')} == 1)"
    ),
    wait="5m",
    severity=TICKET,
    summary="no operator leads in {{ $labels.namespace }}",
    description=(
        "None of the {{ $value }} operator replicas in {{ $labels.namespace }} "
        "holds the lease. No certificate is signed and no change of an AgentPool "
        "takes effect."
    ),
    fault="both replicas of the operator are killed",
    board="certificates",
    cases=(
        fires(
            {
                of(UP, "operator", "o1"): Holds(1),
                of(UP, "operator", "o2"): Holds(1),
                of(metrics.OPERATOR_LEADER, "operator", "o1"): Holds(0),
            },
            at="6m",
            labels={"namespace": "fleet"},
            says=(
                "no operator leads in fleet",
                (
                    "None of the 2 operator replicas in fleet holds the lease. No "
                    "certificate is signed and no change of an AgentPool takes effect."
                ),
            ),
        ),
        silent(
            {
                of(UP, "operator", "o1"): Holds(1),
                of(UP, "operator", "o2"): Holds(1),
                of(metrics.OPERATOR_LEADER, "operator", "o1"): Holds(0),
                of(metrics.OPERATOR_LEADER, "operator", "o2"): Holds(1),
            },
            at="1h",
        ),
        silent(
            {
                of(UP, "operator", "o1"): Holds(1),
                of(UP, "operator", "o2"): Holds(1),
                of(metrics.OPERATOR_LEADER, "operator", "o1"): Written("1x5 0x30"),
                of(metrics.OPERATOR_LEADER, "operator", "o2"): Written("0x8 1x30"),
            },
            at="9m",
            what="the leader changes",
        ),
    ),
)
