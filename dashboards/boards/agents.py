"""Dashboard Agents and kernels: search times, busy threads, and the shards that agents hold."""

from __future__ import annotations

from dashboards import panels, promql, resource_rows
from dashboards.board import Board, Row, pods
from dashboards.panels import Line, Says, above, graph, number, spread
from dashboards.query_scope import Scope
from midstreamer.telemetry import label_values, metrics

OF = Scope("agent", by_pod=True)

_kernels = Row(
    "How long does a search take in the kernels?",
    [
        spread(
            "Search time in the kernels",
            panels.MILLISECONDS,
            Says(
                "Milliseconds that searches took in the kernels, over time.",
                "The band moves upward although the number of windows does not rise: the "
                "history has grown.",
                "The sizing guide says how much history one agent can hold. Add agents.",
            ),
            OF.buckets(metrics.DTW_LATENCY_MS),
        ),
        graph(
            "Search time in the kernels, by agent, 99 %",
            panels.MILLISECONDS,
            Says(
                "99 of 100 searches took less time in the kernels than this. The last "
                "bucket ends at 20 ms; longer searches count as 20 ms.",
                "One agent is above the others: its node is slow, or it holds more shards.",
                "Compare the shards held and the busy processors in the rows below.",
            ),
            Line(OF.quantile(0.99, metrics.DTW_LATENCY_MS, "pod"), "{{pod}}"),
            limits=above(20, warn=10),
        ),
        graph(
            "Windows compared",
            panels.PER_S,
            Says(
                "Windows of history that were compared per second, by measure.",
                "It falls although the number of searches does not: history was lost.",
                "Look at the shards that agents hold.",
            ),
            Line(OF.rate(metrics.PATTERN_MATCHES, "measure"), "{{measure}}"),
        ),
        graph(
            "Search: time from arrival to answer",
            panels.SECONDS,
            Says(
                "Time from the arrival of a search at an agent to its answer: the time "
                "in the kernels, the wait for a thread, and the overhead of the answer.",
                "Far above the time in the kernels: searches wait for threads.",
                "Add threads if the node has free processors, else add agents.",
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
            "Share of busy threads",
            panels.SHARE,
            Says(
                "Share of the time in which the search threads of an agent were busy.",
                "Above 80 %: searches begin to wait for a thread.",
                "Add agents. Where the node has free processors, add threads.",
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
                "Searches in the queue of an agent, and the capacity of the queue.",
                "Near the capacity: the agent refuses searches as overloaded.",
                "Add agents. Where the node has free processors, add threads.",
            ),
            Line(OF.total(metrics.QUEUE_DEPTH, "pod", queue="searches"), "{{pod}}"),
            Line(OF.largest(metrics.QUEUE_CAPACITY, queue="searches"), "capacity"),
            width=8,
        ),
        graph(
            "Refused and failed searches",
            panels.PER_S,
            Says(
                "Searches per second that an agent refused or failed, by error code.",
                "`kernel`: the kernels failed. `overloaded`: there were too many "
                "searches. `behind`: the agent did not yet have the ticks that the "
                "search was about.",
                "`kernel` is a bug: the log line of that time has the reason.",
            ),
            Line(
                promql.or_zero(
                    OF.observed(
                        metrics.REQUEST_LATENCY_S,
                        "result",
                        frame="Search",
                        result=promql.none_of(label_values.OK),
                    )
                ),
                "{{result}}",
            ),
            width=8,
        ),
    ],
)

_holds = Row(
    "Does each agent hold its shards, and is it up to date?",
    [
        graph(
            "Shards held",
            panels.COUNT,
            Says(
                "Shards for which an agent can answer searches.",
                "One agent holds far fewer than the others for longer than loading takes.",
                "`midstreamer status` shows what the agent lacks. Its log line "
                "`load.failed` gives the reason.",
            ),
            Line(OF.total(metrics.SHARDS_HELD, "pod"), "{{pod}}"),
        ),
        graph(
            "Behind the feed",
            panels.SECONDS,
            Says(
                "Time since an agent last had all changes of the feed.",
                "Above 10 s: the agent searches a history that lacks the newest ticks.",
                "If all agents are behind, look at sync. If one is, look at its event loop.",
            ),
            Line(OF.largest(metrics.FEED_LAG_S, "pod"), "{{pod}}"),
            limits=above(10, warn=3),
        ),
        number(
            "Incomplete agents",
            panels.COUNT,
            Says(
                "Agents that run but lack shards or a connection to sync.",
                "Any for longer than a rollout takes.",
                "`midstreamer status` names what each agent lacks.",
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
                "Number of agents that are starting, serving and draining.",
                "An agent that drains for longer than its deadline, or starts for minutes.",
                "A draining agent waits until other agents hold its shards. Check "
                "whether there are enough other agents.",
            ),
            Line(OF.total(metrics.STAGE, "stage"), "{{stage}}"),
            width=18,
        ),
    ],
)

BOARD = Board(
    "agents",
    "Agents and kernels",
    "How long searches take, whether threads keep up, and which shards agents hold.",
    [_kernels, _threads, _holds, resource_rows.at_its_limit(OF)],
    [pods("agent")],
)
