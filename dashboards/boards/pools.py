"""Dashboard Pools: whether each pool has as many ready agents as wanted, and how busy they are."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import POOLS, Board, Row
from dashboards.panels import Line, Says, above, graph, number
from dashboards.query_scope import POOL, Scope
from midstreamer.telemetry import metrics

OPERATOR = Scope("operator")
AGENTS = Scope("agent")

_WANTED = OPERATOR.largest(metrics.POOL_AGENTS, "pool", state="wanted", pool=POOL)
_READY = OPERATOR.largest(metrics.POOL_AGENTS, "pool", state="ready", pool=POOL)

_there = Row(
    "Are all wanted agents ready?",
    [
        graph(
            "Agents wanted and ready",
            panels.COUNT,
            Says(
                "Agents of each pool: how many its AgentPool asks for, and how many are ready.",
                "Fewer ready than wanted for longer than an agent needs to start and "
                "load its shards.",
                "`kubectl get agentpools` shows the reason in the conditions. `kubectl "
                "get pods` shows pods that wait for a node.",
            ),
            Line(_WANTED, "{{pool}} wanted"),
            Line(_READY, "{{pool}} ready"),
            width=16,
        ),
        number(
            "Agents missing",
            panels.COUNT,
            Says(
                "Wanted agents minus ready agents, by pool.",
                "Any for longer than an agent needs to start.",
                "`kubectl get agentpools` shows the reason in the conditions.",
            ),
            Line(f"{_WANTED} - {_READY}", "{{pool}}"),
            limits=above(1),
        ),
        number(
            "Since last operator run",
            panels.SECONDS,
            Says(
                "Time since the operator last processed all pools without an error.",
                "Above ten minutes: changes of a pool have no effect.",
                "Look at the dashboard Certificates and operator.",
            ),
            Line(
                f"time() - {OPERATOR.largest(metrics.OPERATOR_LAST_OK_S, work='pools')}",
                "pools",
            ),
            limits=above(600, warn=180),
        ),
    ],
)

_enough = Row(
    "Are there enough agents?",
    [
        graph(
            "Share of busy threads of all agents",
            panels.SHARE,
            Says(
                "Share of the time in which the search threads of all agents were busy.",
                "Above 80 %: searches wait. Below 5 % for days: there are more agents than needed.",
                "Change `replicas` of the AgentPool; docs/how-to/cluster-sizing.md says "
                "by how much.",
            ),
            Line(
                promql.ratio(
                    AGENTS.rate(metrics.KERNEL_BUSY_S), AGENTS.total(metrics.KERNEL_THREADS)
                ),
                "busy",
            ),
            limits=above(0.8, warn=0.5),
            most=1,
        ),
        graph(
            "Shards with too few replicas",
            panels.COUNT,
            Says(
                "Shards held by fewer agents than configured, and shards held by no agent.",
                "Above 0 for longer than a rollout takes.",
                "Add agents. If an agent cannot hold its shards, give each agent more memory.",
            ),
            Line(
                Scope("coordinator").largest(
                    metrics.SHARDS, "state", state=promql.among("underreplicated", "unheld")
                ),
                "{{state}}",
            ),
            limits=above(1),
        ),
        graph(
            "Agents, by stage",
            panels.COUNT,
            Says(
                "Number of agents that are starting, serving and draining.",
                "An agent drains for longer than its deadline: other agents cannot take "
                "over its shards.",
                "`midstreamer status` shows what the agent waits for.",
            ),
            Line(AGENTS.total(metrics.STAGE, "stage"), "{{stage}}"),
            stacked=True,
        ),
        graph(
            "Shards held, by agent",
            panels.COUNT,
            Says(
                "Shards for which each agent can answer searches.",
                "Very different numbers for longer than a rollout takes.",
                "A new agent takes over its shards by itself; its log shows what it loads.",
            ),
            Line(AGENTS.total(metrics.SHARDS_HELD, "pod"), "{{pod}}"),
        ),
    ],
)

BOARD = Board(
    "pools",
    "Pools",
    "Whether the wanted agents of each pool are ready, and whether there are enough.",
    [_there, _enough],
    [POOLS],
)
