"""Agents and their kernels: how long searching takes, and whether the threads keep up."""

from __future__ import annotations

from dashboards import panels, promql, rows
from dashboards.board import Board, Row, pods
from dashboards.panels import Line, Says, above, graph, number, spread
from dashboards.scope import Scope
from midstreamer.telemetry import metrics, words

OF = Scope("agent", by_pod=True)

_kernels = Row(
    "How long does a search take in the kernels?",
    [
        spread(
            "A search of an agent's shards",
            panels.MILLISECONDS,
            Says(
                "How many searches took how many milliseconds in the kernels, over time.",
                "The band drifts upward while the number of windows does not: history has grown.",
                "The sizing guide says how much history an agent bears; add agents.",
            ),
            OF.buckets(metrics.DTW_LATENCY_MS),
        ),
        graph(
            "A search, by agent, 99 %",
            panels.MILLISECONDS,
            Says(
                "99 in a hundred searches were faster in the kernels than this. The last bucket"
                " ends at 20 ms: longer ones count as that.",
                "One agent above the others: its node is slow, or it holds more.",
                "Compare the shards held and the processors below.",
            ),
            Line(OF.quantile(0.99, metrics.DTW_LATENCY_MS, "pod"), "{{pod}}"),
            limits=above(20, warn=10),
        ),
        graph(
            "Windows compared",
            panels.PER_S,
            Says(
                "Windows of history that were compared each second, by measure.",
                "It falls while searches do not: history was lost.",
                "Look at the shards held.",
            ),
            Line(OF.rate(metrics.PATTERN_MATCHES, "measure"), "{{measure}}"),
        ),
        graph(
            "A search, from its arrival to its answer",
            panels.SECONDS,
            Says(
                "The same with the wait for a thread, and what each answer costs besides.",
                "Far above the time in the kernels: searches wait for threads.",
                "More threads if the node has processors left, else more agents.",
            ),
            Line(
                OF.quantile(0.99, metrics.REQUEST_LATENCY_S, "pod", frame="Search"),
                "{{pod}} 99 %",
                exemplars=True,
            ),
        ),
    ],
)

_threads = Row(
    "Do the threads keep up?",
    [
        graph(
            "Threads kept busy",
            panels.SHARE,
            Says(
                "Share of the time that an agent's threads were searching.",
                "Above 80 %: searches begin to wait for a thread.",
                "Add agents; or threads, where the node has processors left.",
            ),
            Line(
                promql.ratio(
                    OF.rate(metrics.KERNEL_BUSY_S, "pod"), OF.total(metrics.KERNEL_THREADS, "pod")
                ),
                "{{pod}}",
            ),
            limits=above(0.8, warn=0.5),
            most=1,
            width=8,
        ),
        graph(
            "Searches that wait for a thread",
            panels.COUNT,
            Says(
                "Searches in the queue of an agent, beside what it takes.",
                "Near the most: the coordinator is told that it is overloaded.",
                "As above.",
            ),
            Line(OF.total(metrics.QUEUE_DEPTH, "pod", queue="searches"), "{{pod}}"),
            Line(OF.largest(metrics.QUEUE_CAPACITY, queue="searches"), "at most"),
            width=8,
        ),
        graph(
            "Searches not answered as asked",
            panels.PER_S,
            Says(
                "Searches each second that an agent refused or failed, by code.",
                "`kernel`: the kernels failed. `overloaded`: too many came. `behind`: the agent"
                " had not yet seen what the search was about.",
                "`kernel` is a fault of ours: the log line of that time has the reason.",
            ),
            Line(
                promql.or_zero(
                    OF.observed(
                        metrics.REQUEST_LATENCY_S,
                        "result",
                        frame="Search",
                        result=promql.none_of(words.OK),
                    )
                ),
                "{{result}}",
            ),
            width=8,
        ),
    ],
)

_holds = Row(
    "Does each agent hold what it should, and is it up to date?",
    [
        graph(
            "Shards held",
            panels.COUNT,
            Says(
                "Shards that an agent can answer for.",
                "One agent holds far fewer than others for longer than a load takes.",
                "`midstreamer status` says what it lacks; its log line `load.failed` says why.",
            ),
            Line(OF.total(metrics.SHARDS_HELD, "pod"), "{{pod}}"),
        ),
        graph(
            "Behind the feed",
            panels.SECONDS,
            Says(
                "For how long an agent has not known that it has all that the feed has.",
                "Above 10 s: it searches a history that lacks the last ticks.",
                "If all are behind, look at sync; if one is, at its event loop.",
            ),
            Line(OF.largest(metrics.FEED_LAG_S, "pod"), "{{pod}}"),
            limits=above(10, warn=3),
        ),
        number(
            "Agents that lack something",
            panels.COUNT,
            Says(
                "Agents that serve and miss shards or sync.",
                "Any, for longer than a rollout takes.",
                "`midstreamer status` names what.",
            ),
            Line(
                promql.or_zero(promql.number_of(f"{OF.series(metrics.COMPLETE)} == 0")),
                "incomplete",
            ),
            limits=above(1),
            width=6,
        ),
        number(
            "Agents, by stage",
            panels.COUNT,
            Says(
                "How many agents start, serve and drain.",
                "One that drains for longer than its deadline, or starts for minutes.",
                "A draining agent waits until others hold its shards: are there enough others?",
            ),
            Line(OF.total(metrics.STAGE, "stage"), "{{stage}}"),
            width=18,
        ),
    ],
)

BOARD = Board(
    "agents",
    "Agents and kernels",
    "How long searching takes, whether threads keep up, and who holds what.",
    [_kernels, _threads, _holds, rows.at_its_limit(OF)],
    [pods("agent")],
)
