"""Dashboard Fleet: the overview to open first; it links to the dashboards with more detail."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import Board, Row
from dashboards.panels import Column, Line, Says, above, below, graph, listing, number
from dashboards.query_scope import FOLLOWERS, SERVERS, Scope
from dashboards.uncatalogued_series import STARTED, UP
from midstreamer.telemetry import label_values, metrics

ALL = Scope()
ASKED = Scope("coordinator")
FOLLOW = Scope(FOLLOWERS)
SERVE = Scope(SERVERS)
FRAMES = promql.among("Append", "Match", "Lookup", "Survey")
SPEAKS = promql.among("LONG", "SHORT")

_missing = Row(
    "Are all processes and shards available?",
    [
        number(
            "Processes that answer",
            panels.COUNT,
            Says(
                "Processes that Prometheus can scrape, by component.",
                "Fewer than were deployed.",
                "`kubectl get pods` names the pods that do not run. Their logs give the reason.",
            ),
            Line(ALL.total(UP, "component"), "{{component}}"),
            width=8,
        ),
        number(
            "Unreachable processes",
            panels.COUNT,
            Says(
                "Targets that Prometheus knows and cannot scrape.",
                "Any for longer than a restart takes.",
                "Look at the events of the pod and at the end of its previous log.",
            ),
            Line(
                promql.or_zero(promql.number_of(f"{ALL.series(UP)} == 0")),
                "unreachable",
            ),
            limits=above(1),
        ),
        number(
            "Incomplete processes",
            panels.COUNT,
            Says(
                "Processes that run but cannot answer every request: a shard is held by "
                "no agent, no sync is reachable, or the database does not answer.",
                "Any for longer than a rollout takes.",
                "`midstreamer status` names what each process lacks.",
            ),
            Line(
                promql.or_zero(promql.number_of(f"{SERVE.series(metrics.COMPLETE)} == 0")),
                "incomplete",
            ),
            limits=above(1),
        ),
        number(
            "Shards held by no agent",
            panels.COUNT,
            Says(
                "Shards that no agent holds, as the coordinator with the highest number reports.",
                "Any: matches on these shards are refused as unavailable.",
                "Look on the dashboard Pools whether there are enough agents. A new "
                "agent takes over the shards by itself.",
            ),
            Line(ASKED.largest(metrics.SHARDS, state="unheld"), "unheld"),
            limits=above(1),
            leads=(
                "pools",
                "agents",
            ),
        ),
        number(
            "Next certificate expiry",
            panels.SECONDS,
            Says(
                "Time until the first certificate of a process expires.",
                "A few hours, where certificates are valid for a day: renewal does not work.",
                "The dashboard Certificates and operator names the process and the reason.",
            ),
            Line(
                f"{promql.smallest(ALL.known(metrics.CERTIFICATE_EXPIRY_S))} - time()", "time left"
            ),
            limits=below(3600, good=4 * 3600),
            leads=("certificates",),
        ),
        listing(
            "Each process",
            Says(
                "Every process: whether it can be scraped, whether it is complete, how "
                "long it has run, how far it is behind the feed, and how late its event "
                "loop is.",
                "A row with a value in orange or red.",
                "Open the dashboard of its component and choose the pod there.",
            ),
            "pod",
            Column("reached", panels.COUNT, ALL.total(UP, "pod"), below(1)),
            Column("complete", panels.COUNT, SERVE.total(metrics.COMPLETE, "pod"), below(1)),
            Column("running for", panels.SECONDS, f"time() - {ALL.largest(STARTED, 'pod')}"),
            Column(
                "behind the feed",
                panels.SECONDS,
                FOLLOW.largest(metrics.FEED_LAG_S, "pod"),
                above(10, warn=3),
            ),
            Column(
                "event loop lag",
                panels.SECONDS,
                ALL.quantile(0.99, metrics.LOOP_LAG_S, "pod"),
                above(0.1, warn=0.05),
            ),
        ),
    ],
)

_fast = Row(
    "Is it fast enough?",
    [
        graph(
            "Match: time to answer",
            panels.SECONDS,
            Says(
                "Time from the arrival of a Match at a coordinator to its answer. Half "
                "of the matches were faster than the lower line, and 99 of 100 were "
                "faster than the upper line. Dots link to traces.",
                "The upper line above 0.2 s, the limit of the objective.",
                "The dashboard Coordinator shows whether coordinators wait for agents or for sync.",
            ),
            Line(
                ASKED.quantile(0.99, metrics.REQUEST_LATENCY_S, frame="Match", result="ok"),
                "99 %",
                exemplars=True,
            ),
            Line(
                ASKED.quantile(0.5, metrics.REQUEST_LATENCY_S, frame="Match", result="ok"), "50 %"
            ),
            limits=above(0.2),
            leads=(
                "coordinator",
                "agents",
            ),
        ),
        graph(
            "Append: time until it is stored",
            panels.SECONDS,
            Says(
                "Time from the arrival of ticks at a coordinator until PostgreSQL has stored them.",
                "The upper line above 0.1 s, the limit of the objective.",
                "The dashboard Sync and PostgreSQL shows whether writes wait in the "
                "queue or for a slow disk.",
            ),
            Line(
                ASKED.quantile(0.99, metrics.REQUEST_LATENCY_S, frame="Append", result="ok"),
                "99 %",
                exemplars=True,
            ),
            Line(
                ASKED.quantile(0.5, metrics.REQUEST_LATENCY_S, frame="Append", result="ok"), "50 %"
            ),
            limits=above(0.1),
            leads=(
                "coordinator",
                "sync",
            ),
        ),
        graph(
            "Requests of clients",
            panels.PER_S,
            Says(
                "Requests that coordinators answered per second, by frame.",
                "A line falls to 0 while clients are connected.",
                "Look at the refused requests next to this graph, then at the logs of the clients.",
            ),
            Line(ASKED.observed(metrics.REQUEST_LATENCY_S, "frame", frame=FRAMES), "{{frame}}"),
        ),
        graph(
            "Refused and failed requests",
            panels.PER_S,
            Says(
                "Refused and failed requests per second, by the error code that the client got.",
                "`overloaded`, `deadline`, `unavailable`, `error`, `store`: the fleet is "
                "the cause. For other codes the request is the cause.",
                "docs/reference/errors.md explains each code and what to do.",
            ),
            Line(
                ASKED.observed(
                    metrics.REQUEST_LATENCY_S,
                    "result",
                    frame=FRAMES,
                    result=promql.none_of(label_values.OK),
                ),
                "{{result}}",
            ),
            leads=(
                "coordinator",
                "slo",
            ),
        ),
    ],
)

_full = Row(
    "Is anything filling up or falling behind?",
    [
        graph(
            "Bounded queues: share in use",
            panels.SHARE,
            Says(
                "Entries of each queue as share of its capacity, for the process whose "
                "queue is fullest.",
                "Near 1: new requests will be refused as overloaded.",
                "The name of the queue tells the dashboard: matches and outbox belong to "
                "coordinators, searches to agents, writes and reads to syncs.",
            ),
            Line(
                promql.largest(
                    promql.ratio(
                        ALL.series(metrics.QUEUE_DEPTH), ALL.series(metrics.QUEUE_CAPACITY)
                    ),
                    "queue",
                ),
                "{{queue}}",
            ),
            limits=above(0.9, warn=0.5),
            most=1,
            leads=(
                "coordinator",
                "agents",
                "sync",
            ),
        ),
        graph(
            "Behind the feed",
            panels.SECONDS,
            Says(
                "Time since the process that is furthest behind last had all changes of "
                "the feed, by component.",
                "It rises without end: the process works with old data.",
                "Look at the feed on the dashboard Sync and PostgreSQL, then at the "
                "event loop of the process.",
            ),
            Line(FOLLOW.largest(metrics.FEED_LAG_S, "component"), "{{component}}"),
            limits=above(10, warn=3),
            leads=("sync",),
        ),
        graph(
            "Failed background tasks",
            panels.COUNT,
            Says(
                "Background tasks that failed within the last hour, by task.",
                "Any: the tasks are restarted, but they should never fail.",
                "The log line `task.failed` of that time has the reason.",
            ),
            Line(promql.or_zero(ALL.increase(metrics.TASK_FAILURES, "1h", "task")), "{{task}}"),
            limits=above(1),
        ),
        graph(
            "Refused connections",
            panels.PER_S,
            Says(
                "Connections per second that were refused, by reason.",
                "A new reason, or a reason that continues.",
                "The dashboard Transport shows which component refused them.",
            ),
            Line(
                ALL.rate(
                    metrics.HANDSHAKES, "result", result=promql.none_of(label_values.ACCEPTED)
                ),
                "{{result}}",
            ),
            leads=("transport",),
        ),
    ],
)

_decides = Row(
    "Which data arrives, and what is decided?",
    [
        graph(
            "Ticks",
            panels.PER_S,
            Says(
                "Ticks committed per second: stored, or repeated, which means stored before.",
                "No ticks while clients append. Mostly repeated: clients append the same "
                "ticks twice.",
                "Look at the dashboard Sync and PostgreSQL.",
            ),
            Line(Scope("sync").rate(metrics.TICKS, "result"), "{{result}}"),
            width=10,
            leads=("sync",),
        ),
        graph(
            "Decisions",
            panels.PER_S,
            Says(
                "Decisions per second, by outcome: LONG, SHORT, or the reason for an abstention.",
                "Only abstentions, all for one reason.",
                "The dashboard Reasoning shows more about each reason.",
            ),
            Line(ASKED.rate(metrics.DECISIONS, "outcome"), "{{outcome}}"),
            stacked=True,
            width=10,
            leads=("reasoning",),
        ),
        number(
            "Share of signals",
            panels.SHARE,
            Says(
                "LONG and SHORT as share of all decisions.",
                "There is no bad value: without a licence, an abstention is right.",
                "The dashboard Reasoning shows the reasons for abstentions.",
            ),
            Line(
                promql.ratio(
                    promql.or_zero(ASKED.rate(metrics.DECISIONS, outcome=SPEAKS)),
                    ASKED.rate(metrics.DECISIONS),
                ),
                "signals",
            ),
        ),
    ],
)

_tells = Row(
    "Is the telemetry complete, and is there one version?",
    [
        number(
            "Processes, by version",
            panels.COUNT,
            Says(
                "Number of processes that run each version.",
                "Two versions for longer than a rollout takes.",
                "`kubectl rollout status` shows what the rollout waits for.",
            ),
            Line(ALL.total(metrics.BUILD, "version"), "{{version}}"),
            width=8,
        ),
        graph(
            "Suppressed log lines",
            panels.PER_S,
            Says(
                "Log lines per second that were not written because one peer caused too "
                "many of them, by event.",
                "It continues: a peer is attacking, or a client is broken.",
                "The lines that were written name the peer.",
            ),
            Line(promql.or_zero(ALL.rate(metrics.LOG_LINES_LEFT_OUT, "event")), "{{event}}"),
            width=8,
        ),
        graph(
            "Spans for the trace collector",
            panels.PER_S,
            Says(
                "Sampled spans per second that ended: exported, or dropped.",
                "Dropped spans: traces are incomplete. Requests are not affected.",
                "Check whether the collector answers; see docs/how-to/observe.md.",
            ),
            Line(promql.or_zero(ALL.rate(metrics.SPANS, "result")), "{{result}}"),
            width=8,
        ),
    ],
)

BOARD = Board(
    "fleet",
    "Fleet",
    "Whether the fleet is complete, fast and safe, and which dashboard shows more.",
    [_missing, _fast, _full, _decides, _tells],
)
