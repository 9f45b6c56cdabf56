"""Pools of agents: whether the agents that were asked for are there and have something to do."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import POOLS, Board, Row
from dashboards.panels import Line, Says, above, graph, number
from dashboards.scope import POOL, Scope
from midstreamer.telemetry import metrics

OPERATOR = Scope("operator")
AGENTS = Scope("agent")

_WANTED = OPERATOR.largest(metrics.POOL_AGENTS, "pool", state="wanted", pool=POOL)
_READY = OPERATOR.largest(metrics.POOL_AGENTS, "pool", state="ready", pool=POOL)

_there = Row(
    "Are the agents there that were asked for?",
    [
        graph(
            "Agents wanted and ready",
            panels.COUNT,
            Says(
                "Agents of each pool: how many its AgentPool asks for, how many are ready.",
                "Fewer ready than wanted for longer than a start and the load of its shards.",
                "`kubectl get agentpools` has the reason in its conditions; `kubectl get pods` the"
                " pods that wait for a node.",
            ),
            Line(_WANTED, "{{pool}} wanted"),
            Line(_READY, "{{pool}} ready"),
            width=16,
        ),
        number(
            "Agents missing",
            panels.COUNT,
            Says(
                "Wanted less ready, of each pool.",
                "Any, for longer than a start takes.",
                "As beside.",
            ),
            Line(f"{_WANTED} - {_READY}", "{{pool}}"),
            limits=above(1),
        ),
        number(
            "Operator looked last",
            panels.SECONDS,
            Says(
                "Time since the operator last went over all pools without failing.",
                "Above ten minutes: a change of a pool has no effect.",
                "The board Certificates and operator.",
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
    "Are they enough?",
    [
        graph(
            "Threads of all agents kept busy",
            panels.SHARE,
            Says(
                "Share of the time that the threads of all agents together were searching.",
                "Above 80 %: searches wait. Below 5 % for days: there are more than are needed.",
                "Change `replicas` of the AgentPool; docs/how-to/cluster-sizing.md says by how"
                " much.",
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
            "Shards with too few agents",
            panels.COUNT,
            Says(
                "Shards that fewer agents hold than should, and those that none holds.",
                "Above 0 for longer than a rollout.",
                "More agents; or more memory for each, where one cannot hold its part.",
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
                "Agents that start, serve, drain.",
                "One that drains longer than its deadline: others cannot take its shards.",
                "`midstreamer status` says what it still waits for.",
            ),
            Line(AGENTS.total(metrics.STAGE, "stage"), "{{stage}}"),
            stacked=True,
        ),
        graph(
            "Shards held, by agent",
            panels.COUNT,
            Says(
                "Shards that each agent can answer for.",
                "Very unequal for longer than a rollout.",
                "A new agent takes over its part by itself; look at its loads in its log.",
            ),
            Line(AGENTS.total(metrics.SHARDS_HELD, "pod"), "{{pod}}"),
        ),
    ],
)

BOARD = Board(
    "pools",
    "Pools",
    "Whether the agents of each pool are there, and whether they are enough.",
    [_there, _enough],
    [POOLS],
)
