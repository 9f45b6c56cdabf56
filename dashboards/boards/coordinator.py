"""Dashboard Coordinator: how long clients wait at coordinators, and where that time is spent."""

from __future__ import annotations

from dashboards import panels, promql, resource_rows
from dashboards.board import Board, Row, pods
from dashboards.panels import Line, Says, above, graph, number, spread
from dashboards.query_scope import Scope
from midstreamer.telemetry import label_values, metrics

OF = Scope("coordinator", by_pod=True)
ALL = Scope("coordinator")
FRAMES = promql.among("Append", "Match", "Lookup", "Survey", "Drain")

_answers = Row(
    "How long do clients wait for an answer?",
    [
        spread(
            "Match: time to answer",
            panels.SECONDS,
            Says(
                "Time to answer matches, over time. Dots link to traces of single matches.",
                "A second band above the first: some matches wait for something that "
                "others do not need.",
                "Open a dot of the upper band. Its trace shows the slow hop.",
            ),
            OF.buckets(metrics.REQUEST_LATENCY_S, frame="Match", result=label_values.OK),
        ),
        graph(
            "Requests: time to answer, 99 %",
            panels.SECONDS,
            Says(
                "99 of 100 requests were answered faster than this, by frame.",
                "Match above 0.2 s, Append above 0.1 s.",
                "The rows below show whether coordinators wait for agents or for sync, "
                "or have no capacity left.",
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
                "Requests answered per second, by pod.",
                "One pod answers far more than another: clients do not find all coordinators.",
                "Clients dial all the addresses that they are configured with, and all "
                "addresses of a headless Service. Check these addresses.",
            ),
            Line(OF.observed(metrics.REQUEST_LATENCY_S, "pod", frame=FRAMES), "{{pod}}"),
            stacked=True,
        ),
        graph(
            "Refused and failed requests",
            panels.PER_S,
            Says(
                "Refused and failed requests per second, by frame and error code.",
                "`overloaded` and `deadline`: the fleet is too slow. `unavailable`: a "
                "part of the fleet is missing. `error`, `store`, `kernel`: a bug or a "
                "fault of the fleet.",
                "docs/reference/errors.md explains each code. For other codes the "
                "request is the cause.",
            ),
            Line(
                OF.observed(
                    metrics.REQUEST_LATENCY_S,
                    "frame",
                    "result",
                    frame=FRAMES,
                    result=promql.none_of(label_values.OK),
                ),
                "{{frame}} {{result}}",
            ),
        ),
    ],
)

_agents = Row(
    "Do coordinators wait for agents?",
    [
        graph(
            "Search at an agent: time to answer",
            panels.SECONDS,
            Says(
                "Time from sending a search to an agent to its answer, measured by the "
                "coordinator.",
                "Far above the time in the kernels on the dashboard Agents and kernels: "
                "the difference is the queue and the network.",
                "Look at the queue `searches` of agents, and at the round trips on the "
                "dashboard Transport.",
            ),
            Line(OF.quantile(0.99, metrics.CALL_LATENCY_S, frame="Search"), "99 %", exemplars=True),
            Line(OF.quantile(0.5, metrics.CALL_LATENCY_S, frame="Search"), "50 %"),
        ),
        graph(
            "Searches, by result",
            panels.PER_S,
            Says(
                "Searches sent to agents per second: answered, failed, or abandoned "
                "because another replica was faster or the client no longer waited.",
                "`failed` for longer than a restart takes; `abandoned` as often as answered.",
                "Failed: find the missing agent on the dashboard Fleet. Abandoned: one "
                "agent is slow; compare the pods on the dashboard Agents and kernels.",
            ),
            Line(OF.rate(metrics.DISPATCH_ATTEMPTS, "result"), "{{result}}"),
            stacked=True,
        ),
        number(
            "Share of hedged searches",
            panels.SHARE,
            Says(
                "Hedged searches: those sent to another replica too because the first "
                "was late, as share of all searches.",
                "Above 5 %: agents do the same work twice.",
                "An agent is slow or frozen: compare the event loops and search times of agents.",
            ),
            Line(
                promql.ratio(
                    promql.or_zero(OF.rate(metrics.DISPATCH_OVERDUE)),
                    OF.rate(metrics.DISPATCH_ATTEMPTS),
                ),
                "hedged",
            ),
            limits=above(0.05, warn=0.01),
            width=6,
        ),
        number(
            "Shards",
            panels.COUNT,
            Says(
                "Shards that coordinators know: all of them, those held by fewer agents "
                "than configured, and those held by no agent.",
                "Any `unheld`. `underreplicated` for longer than a rollout takes: the "
                "loss of one more agent may make matches fail.",
                "Add agents, or look at what the existing agents lack in `midstreamer status`.",
            ),
            Line(ALL.largest(metrics.SHARDS, "state"), "{{state}}"),
            width=18,
        ),
    ],
)

_sync = Row(
    "Do coordinators wait for sync?",
    [
        graph(
            "Requests to sync: time to answer, 99 %",
            panels.SECONDS,
            Says(
                "Time from sending a request to sync to its answer, measured by the "
                "coordinator, by frame. An append waits for a Write.",
                "Write near 0.1 s: appends miss their objective.",
                "The dashboard Sync and PostgreSQL separates the wait in the queue from "
                "the commit.",
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
            "Decisions waiting to be stored",
            panels.COUNT,
            Says(
                "Decisions in the outbox, which clients have received and sync has not "
                "yet stored, and the capacity of the outbox.",
                "It rises without end: sync is not reachable or overloaded. When the "
                "outbox is full, matches are refused.",
                "Check on the dashboard Fleet whether a sync runs, and whether PostgreSQL answers.",
            ),
            Line(OF.total(metrics.QUEUE_DEPTH, "pod", queue="outbox"), "{{pod}}"),
            Line(OF.largest(metrics.QUEUE_CAPACITY, queue="outbox"), "capacity"),
            width=8,
        ),
        graph(
            "Behind the feed",
            panels.SECONDS,
            Says(
                "Time since a coordinator last had all changes of the feed.",
                "Above 10 s: the coordinator decides with old data.",
                "If all coordinators are behind, look at sync. If one is, look at its event loop.",
            ),
            Line(OF.largest(metrics.FEED_LAG_S, "pod"), "{{pod}}"),
            limits=above(10, warn=3),
            width=8,
        ),
    ],
)

_full = Row(
    "Are the queues full?",
    [
        graph(
            "Queues: share in use",
            panels.SHARE,
            Says(
                "Entries of each bounded queue as share of its capacity.",
                "Near 1: new requests will be refused as overloaded.",
                "Add coordinators if their processors are busy. Else look at what they wait for.",
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
            "Oldest entry of each queue",
            panels.SECONDS,
            Says(
                "How long the oldest entry of each queue has waited.",
                "Above one second: the deadlines of clients expire while requests wait.",
                "Add coordinators if their processors are busy. Else look at what they wait for.",
            ),
            Line(OF.largest(metrics.QUEUE_OLDEST_S, "pod", "queue"), "{{pod}} {{queue}}"),
            limits=above(1, warn=0.2),
        ),
    ],
)

BOARD = Board(
    "coordinator",
    "Coordinator",
    "How long clients wait at coordinators, and where that time is spent.",
    [_answers, _agents, _sync, _full, resource_rows.at_its_limit(OF)],
    [pods("coordinator")],
)
