"""A load test: what was asked, how long it took, and whether the generator was the limit."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import Board, Row
from dashboards.panels import Line, Says, above, graph
from dashboards.scope import Scope
from midstreamer.telemetry import metrics

OF = Scope("loadtest")
ASKED = Scope("coordinator")
ALL = Scope()

_asked = Row(
    "What is asked, and is it answered?",
    [
        graph(
            "Users",
            panels.COUNT,
            Says(
                "Users of the load test: those that speak frames themselves, and those with the"
                " Client.",
                "Fewer than were asked for.",
                "The first lines of the load test say why a user could not begin.",
            ),
            Line(OF.total(metrics.LOAD_USERS, "kind"), "{{kind}}"),
            stacked=True,
            width=8,
        ),
        graph(
            "Requests offered and answered",
            panels.PER_S,
            Says(
                "Requests that should begin each second, beside those that ended.",
                "Answered falls below offered: the fleet, or the generator, is at its limit.",
                "The rows below tell which.",
            ),
            Line(OF.total(metrics.LOAD_OFFERED), "offered"),
            Line(OF.observed(metrics.LOAD_LATENCY_S), "ended"),
            width=8,
        ),
        graph(
            "Requests that failed",
            panels.PER_S,
            Says(
                "Requests of the load test each second that did not end as expected. A refusal"
                " that was expected is no failure.",
                "Any.",
                "The load test's own table names the errors.",
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
    "How long does it take, from when it should have begun?",
    [
        graph(
            "Latency, 99 %",
            panels.SECONDS,
            Says(
                "99 in a hundred requests ended within this time of when they should have begun:"
                " a wait for the generator or for the answer before is part of it.",
                "A match above 0.2 s, an append above 0.1 s.",
                "Compare with what coordinators measured, below.",
            ),
            Line(OF.quantile(0.99, metrics.LOAD_LATENCY_S, "request", result="ok"), "{{request}}"),
            limits=above(0.2),
        ),
        graph(
            "Latency, 50 %",
            panels.SECONDS,
            Says(
                "The same for half of the requests.",
                "It rises with the rate: queues have begun.",
                "Look for the first queue that fills, below.",
            ),
            Line(OF.quantile(0.5, metrics.LOAD_LATENCY_S, "request", result="ok"), "{{request}}"),
        ),
    ],
)

_generator = Row(
    "Is the generator itself the limit?",
    [
        graph(
            "How late the generator began requests",
            panels.SECONDS,
            Says(
                "How much later than it should the generator began a request, 99 in a hundred.",
                "More than a tenth of the latency: the figures speak of the generator.",
                "More workers; or a machine of its own.",
            ),
            Line(OF.quantile(0.99, metrics.LOAD_LATE_S), "99 %"),
            Line(OF.quantile(0.5, metrics.LOAD_LATE_S), "50 %"),
            limits=above(0.05, warn=0.01),
        ),
        graph(
            "Processors that the generator keeps busy",
            panels.COUNT,
            Says(
                "Processor time of the generator each second: 1 is one processor, all the time.",
                "A worker near 1: it cannot ask faster.",
                "More workers.",
            ),
            Line(OF.total(metrics.LOAD_PROCESSORS, "pod"), "{{pod}}"),
            limits=above(0.9, warn=0.7),
        ),
    ],
)

_fleet = Row(
    "What does the fleet say meanwhile?",
    [
        graph(
            "Coordinators: until the answer, 99 %",
            panels.SECONDS,
            Says(
                "What coordinators measured, by what was asked.",
                "Far below what the load test measured: the time is lost on the way or in the"
                " generator.",
                "The board Transport; the row above.",
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
            "Bounded queues, how full",
            panels.SHARE,
            Says(
                "How full the fullest queue of each name is.",
                "The first that rises is the first bottleneck.",
                "The board of its component.",
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
            "Event loops: how late, 99 %",
            panels.SECONDS,
            Says(
                "How late the loop of the worst process of each component is.",
                "Above 0.1 s: that component is at its limit.",
                "Add one of it, and measure again.",
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
            "Refused by the fleet",
            panels.PER_S,
            Says(
                "What coordinators refused or failed each second, by code.",
                "`overloaded`: the load is beyond what they take.",
                "Fewer requests, or more coordinators.",
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
    "What a load test asks, how long it takes, and whether the generator was the limit.",
    [_asked, _long, _generator, _fleet],
    shows="now-15m",
)
