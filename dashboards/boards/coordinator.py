"""Coordinators: what clients wait for, and where that time goes."""

from __future__ import annotations

from dashboards import panels, promql, rows
from dashboards.board import Board, Row, pods
from dashboards.panels import Line, Says, above, graph, number, spread
from dashboards.scope import Scope
from midstreamer.telemetry import metrics, words

OF = Scope("coordinator", by_pod=True)
ALL = Scope("coordinator")
FRAMES = promql.among("Append", "Match", "Lookup", "Survey", "Drain")

_answers = Row(
    "How long do clients wait, and for what?",
    [
        spread(
            "A match: until the answer",
            panels.SECONDS,
            Says(
                "How many matches took how long, over time. Dots lead to traces of single ones.",
                "A second band above the first: some wait for something that others do not.",
                "Open a dot of the upper band; its trace names the hop.",
            ),
            OF.buckets(metrics.REQUEST_LATENCY_S, frame="Match", result=words.OK),
        ),
        graph(
            "Each request: until the answer, 99 %",
            panels.SECONDS,
            Says(
                "99 in a hundred requests were answered faster than this, by what was asked.",
                "Match above 0.2 s, Append above 0.1 s.",
                "The rows below tell waiting for agents from waiting for sync and from a full"
                " coordinator.",
            ),
            Line(
                OF.quantile(0.99, metrics.REQUEST_LATENCY_S, "frame", frame=FRAMES),
                "{{frame}}",
                exemplars=True,
            ),
            limits=above(0.2, warn=0.1),
        ),
        graph(
            "Requests answered",
            panels.PER_S,
            Says(
                "Requests each second, by pod.",
                "One pod with far more than another: clients do not find the others.",
                "Clients dial all addresses that they were given, and the names of a Service"
                " without an address of its own: look at what they were given.",
            ),
            Line(OF.observed(metrics.REQUEST_LATENCY_S, "pod", frame=FRAMES), "{{pod}}"),
            stacked=True,
        ),
        graph(
            "Requests not answered as asked",
            panels.PER_S,
            Says(
                "Refusals and failures each second, by what was asked and the code.",
                "`overloaded` and `deadline`: we are too slow. `unavailable`: something is"
                " missing. `error`, `store`, `kernel`: a fault of ours.",
                "The page of error codes says what each means. Others are the client's doing.",
            ),
            Line(
                OF.observed(
                    metrics.REQUEST_LATENCY_S,
                    "frame",
                    "result",
                    frame=FRAMES,
                    result=promql.none_of(words.OK),
                ),
                "{{frame}} {{result}}",
            ),
        ),
    ],
)

_agents = Row(
    "Does it wait for agents?",
    [
        graph(
            "A search at an agent: until its answer",
            panels.SECONDS,
            Says(
                "From sending a search to an agent to its answer, as the coordinator sees it.",
                "It is far above the time in the kernels on the board Agents and kernels: the"
                " difference is queue and network.",
                "Look at the queue `searches` of agents and at the round trips on Transport.",
            ),
            Line(OF.quantile(0.99, metrics.CALL_LATENCY_S, frame="Search"), "99 %", exemplars=True),
            Line(OF.quantile(0.5, metrics.CALL_LATENCY_S, frame="Search"), "50 %"),
        ),
        graph(
            "Searches, by what became of them",
            panels.PER_S,
            Says(
                "Searches sent to agents each second: answered, failed, or abandoned because"
                " another replica was faster or nobody waited any more.",
                "`failed` for longer than a restart takes; `abandoned` as often as answered.",
                "Failed: which agent is gone, on the board Fleet? Abandoned: one agent is slow,"
                " compare the pods on Agents and kernels.",
            ),
            Line(OF.rate(metrics.DISPATCH_ATTEMPTS, "result"), "{{result}}"),
            stacked=True,
        ),
        number(
            "Searches sent twice",
            panels.SHARE,
            Says(
                "Searches that another replica got too because the first was late, as share of"
                " all.",
                "Above 5 %: agents do work twice.",
                "An agent is slow or frozen: compare their event loops and searches.",
            ),
            Line(
                promql.ratio(
                    promql.or_zero(OF.rate(metrics.DISPATCH_OVERDUE)),
                    OF.rate(metrics.DISPATCH_ATTEMPTS),
                ),
                "twice",
            ),
            limits=above(0.05, warn=0.01),
            width=6,
        ),
        number(
            "Shards",
            panels.COUNT,
            Says(
                "Shards that it knows: all, those that fewer agents hold than should, and those"
                " that none holds.",
                "Any unheld. Underreplicated for longer than a rollout: the next loss is felt.",
                "Add agents, or look at what the present ones lack in `midstreamer status`.",
            ),
            Line(ALL.largest(metrics.SHARDS, "state"), "{{state}}"),
            width=18,
        ),
    ],
)

_sync = Row(
    "Does it wait for sync?",
    [
        graph(
            "Asking sync: until the answer, 99 %",
            panels.SECONDS,
            Says(
                "From sending a request to sync to its answer, as the coordinator sees it, by"
                " what was asked. Write is what an append waits for.",
                "Write near 0.1 s: appends miss their objective.",
                "The board Sync and PostgreSQL tells the turn from the commit.",
            ),
            Line(
                OF.quantile(
                    0.99,
                    metrics.CALL_LATENCY_S,
                    "frame",
                    frame=promql.among("Write", "Load", "Recall", "Tail", "Renew"),
                ),
                "{{frame}}",
                exemplars=True,
            ),
            limits=above(0.1),
            width=8,
        ),
        graph(
            "Decisions that wait to be stored",
            panels.COUNT,
            Says(
                "What the outbox holds: decisions that were given and that sync does not have yet,"
                " beside what it takes at most.",
                "It rises without end: sync is out of reach or full. At the most, matches are"
                " refused.",
                "Is a sync there, on the board Fleet? Does PostgreSQL answer?",
            ),
            Line(OF.total(metrics.QUEUE_DEPTH, "pod", queue="outbox"), "{{pod}}"),
            Line(OF.largest(metrics.QUEUE_CAPACITY, queue="outbox"), "at most"),
            width=8,
        ),
        graph(
            "Behind the feed",
            panels.SECONDS,
            Says(
                "For how long a coordinator has not known that it has all that the feed has.",
                "Above 10 s: it decides from what was known then.",
                "If all are behind, look at sync; if one is, at its event loop.",
            ),
            Line(OF.largest(metrics.FEED_LAG_S, "pod"), "{{pod}}"),
            limits=above(10, warn=3),
            width=8,
        ),
    ],
)

_full = Row(
    "Is it full?",
    [
        graph(
            "Queues, how full",
            panels.SHARE,
            Says(
                "What waits in each bounded queue, as share of what it takes.",
                "Near 1: the next request is refused as overloaded.",
                "Add coordinators when their processors are busy; else look at what they wait for.",
            ),
            Line(
                promql.largest(
                    promql.ratio(OF.series(metrics.QUEUE_DEPTH), OF.series(metrics.QUEUE_CAPACITY)),
                    "pod",
                    "queue",
                ),
                "{{pod}} {{queue}}",
            ),
            limits=above(0.9, warn=0.5),
            most=1,
        ),
        graph(
            "The oldest that waits",
            panels.SECONDS,
            Says(
                "How long the oldest thing in each queue has waited.",
                "Above a second: clients' deadlines pass while they wait.",
                "As of the queue beside it.",
            ),
            Line(OF.largest(metrics.QUEUE_OLDEST_S, "pod", "queue"), "{{pod}} {{queue}}"),
            limits=above(1, warn=0.2),
        ),
    ],
)

BOARD = Board(
    "coordinator",
    "Coordinator",
    "What clients wait for at coordinators, and where that time goes.",
    [_answers, _agents, _sync, _full, rows.at_its_limit(OF)],
    [pods("coordinator")],
)
