"""A pool has fewer agents than are wanted."""

from __future__ import annotations

from dashboards.cases import fires, of, silent
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
    summary=("pool {{ $labels.pool }} of {{ $labels.namespace }} lacks {{ $value }} agents"),
    description=(
        "Of the agents that pool {{ $labels.pool }} of {{ $labels.namespace }} "
        "should have, {{ $value }} have not been ready for a quarter of an hour."
    ),
    fault="a pool wants more agents than there are pods",
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
                "pool mid-agent of fleet lacks 2 agents",
                (
                    "Of the agents that pool mid-agent of fleet should have, 2 have not"
                    " been ready for a quarter of an hour."
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
            what="nothing is known of what is ready",
        ),
    ),
)
