"""Dashboard Load test: requests, their latency, and whether the load generator was too slow."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import Board, Row
from dashboards.panels import Line, Says, above, graph
from dashboards.query_scope import Scope
from midstreamer.telemetry import metrics

OF = Scope("loadtest")
ASKED = Scope("coordinator")
ALL = Scope()

_asked = Row(
    "Which requests are sent, and are they answered?",
    [
        graph(
            "Users",
            panels.COUNT,
            Says(
                "Users of the load test, by kind: `quic` sends frames itself, `sdk` uses "
                "the Client of the SDK.",
                "Fewer than were requested.",
                "The first log lines of the load test say why a user could not start.",
            ),
            Line(OF.total(metrics.LOAD_USERS, "kind"), "{{kind}}"),
            stacked=True,
            width=8,
        ),
        graph(
            "Requests offered and ended",
            panels.PER_S,
            Says(
                "Requests that should start per second, and requests that ended per second.",
                "Fewer end than are offered: the fleet or the generator is at its limit.",
                "The rows below show which of the two it is.",
            ),
            Line(OF.total(metrics.LOAD_OFFERED), "offered"),
            Line(OF.observed(metrics.LOAD_LATENCY_S), "ended"),
            width=8,
        ),
        graph(
            "Failed requests",
            panels.PER_S,
            Says(
                "Requests of the load test per second with an unexpected result. An "
                "expected refusal is not a failure.",
                "Any.",
                "The table that the load test prints names the errors.",
            ),
            Line(
                promql.or_zero(OF.observed(metrics.LOAD_LATENCY_S, "request", result="failed")),
                "{{request}}",
            ),
            limits=above(0.1),
            width=8,
        ),
    ],
)

_long = Row(
    "How long do requests take after their planned start?",
    [
        graph(
            "Latency, 99 %",
            panels.SECONDS,
            Says(
                "99 of 100 requests ended within this time after they should have "
                "started. This includes waiting for the generator or for the previous "
                "answer.",
                "Above 0.2 s for a match, above 0.1 s for an append.",
                "Compare with what coordinators measured, below.",
            ),
            Line(OF.quantile(0.99, metrics.LOAD_LATENCY_S, "request", result="ok"), "{{request}}"),
            limits=above(0.2),
        ),
        graph(
            "Latency, 50 %",
            panels.SECONDS,
            Says(
                "Half of the requests ended within this time after they should have started.",
                "It rises with the rate: requests wait in queues.",
                "Find the first queue that fills, below.",
            ),
            Line(OF.quantile(0.5, metrics.LOAD_LATENCY_S, "request", result="ok"), "{{request}}"),
        ),
    ],
)

_generator = Row(
    "Is the generator itself the limit?",
    [
        graph(
            "Delay of requests in the generator",
            panels.SECONDS,
            Says(
                "How much later than planned the generator started requests: half and 99 "
                "of 100 requests were less late.",
                "More than a tenth of the latency: the generator distorts the measurement.",
                "Use more workers, or run the generator on its own machine.",
            ),
            Line(OF.quantile(0.99, metrics.LOAD_LATE_S), "99 %"),
            Line(OF.quantile(0.5, metrics.LOAD_LATE_S), "50 %"),
            limits=above(0.05, warn=0.01),
        ),
        graph(
            "Busy processors of the generator",
            panels.COUNT,
            Says(
                "Processor time of the generator per second: 1 means one processor all the time.",
                "A worker near 1: it cannot send requests faster.",
                "Use more workers.",
            ),
            Line(OF.total(metrics.LOAD_PROCESSORS, "pod"), "{{pod}}"),
            limits=above(0.9, warn=0.7),
        ),
    ],
)

_fleet = Row(
    "What does the fleet measure?",
    [
        graph(
            "Coordinators: time to answer, 99 %",
            panels.SECONDS,
            Says(
                "99 of 100 requests were answered faster than this, measured by "
                "coordinators, by frame.",
                "Far below what the load test measured: the time is lost in the network "
                "or in the generator.",
                "Look at the dashboard Transport and at the row above.",
            ),
            Line(
                ASKED.quantile(
                    0.99,
                    metrics.REQUEST_LATENCY_S,
                    "frame",
                    frame=promql.among("Append", "Match", "Lookup", "Survey"),
                ),
                "{{frame}}",
                exemplars=True,
            ),
        ),
        graph(
            "Bounded queues: share in use",
            panels.SHARE,
            Says(
                "Entries as share of the capacity, for the fullest queue of each name.",
                "The queue that rises first is the bottleneck.",
                "Open the dashboard of its component.",
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
        ),
        graph(
            "Event loop lag, 99 %",
            panels.SECONDS,
            Says(
                "Event loop lag of the worst process of each component.",
                "Above 0.1 s: the component is at its limit.",
                "Add a process of the component, and measure again.",
            ),
            Line(
                promql.largest(
                    ALL.quantile(0.99, metrics.LOOP_LAG_S, "component", "pod"), "component"
                ),
                "{{component}}",
            ),
            limits=above(0.1, warn=0.05),
        ),
        graph(
            "Refused and failed requests",
            panels.PER_S,
            Says(
                "Requests per second that coordinators refused or failed, by error code.",
                "`overloaded`: the load exceeds the capacity of the coordinators.",
                "Send fewer requests, or add coordinators.",
            ),
            Line(
                ASKED.observed(metrics.REQUEST_LATENCY_S, "result", result=promql.none_of("ok")),
                "{{result}}",
            ),
        ),
    ],
)

BOARD = Board(
    "load",
    "Load test",
    "Requests of a load test, their latency, and whether the generator was the limit.",
    [_asked, _long, _generator, _fleet],
    shows="now-15m",
)
