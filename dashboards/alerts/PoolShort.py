"""Alert: a pool has fewer ready agents than its AgentPool asks for."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import largest
from dashboards.rules import TICKET, Alert, Holds, ours
from midstreamer.telemetry import metrics


def _agents(state: str) -> str:
    return largest(ours(metrics.POOL_AGENTS, state=state), "namespace", "pool")


ALERT = Alert(
    name="PoolShort",
    expression=lambda _: f"{_agents('wanted')} - {_agents('ready')} > 0",
    wait="15m",
    severity=TICKET,
    summary="pool {{ $labels.pool }} in {{ $labels.namespace }} lacks {{ $value }} agents",
    description=(
        "Pool {{ $labels.pool }} in {{ $labels.namespace }} has had fewer ready "
        "agents than wanted for 15 minutes. Missing agents: {{ $value }}."
    ),
    fault="no pod of a pool is ready",
    board="pools",
    cases=(
        fires(
            {
                of(metrics.POOL_AGENTS, "operator", "o1", pool="mid-agent", state="wanted"): Holds(
                    3
                ),
                of(metrics.POOL_AGENTS, "operator", "o1", pool="mid-agent", state="ready"): Holds(
                    1
                ),
            },
            at="16m",
            labels={"namespace": "fleet", "pool": "mid-agent"},
            says=(
                "pool mid-agent in fleet lacks 2 agents",
                (
                    "Pool mid-agent in fleet has had fewer ready agents than wanted for 15 "
                    "minutes. Missing agents: 2."
                ),
            ),
        ),
        silent(
            {
                of(metrics.POOL_AGENTS, "operator", "o1", pool="mid-agent", state="wanted"): Holds(
                    3
                ),
                of(metrics.POOL_AGENTS, "operator", "o1", pool="mid-agent", state="ready"): Holds(
                    3
                ),
            },
            at="1h",
        ),
        silent(
            {of(metrics.POOL_AGENTS, "operator", "o1", pool="mid-agent", state="wanted"): Holds(3)},
            at="1h",
            what="the number of ready agents is unknown",
        ),
    ),
)
