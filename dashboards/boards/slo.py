"""Dashboard Objectives: whether each objective is met, and how fast its error budget is spent.

It also shows which errors spend the budgets.
"""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import Board, Row
from dashboards.burn_rate_alerts import PAGES, TICKETS, Windows
from dashboards.panels import Line, Says, above, below, graph, number
from dashboards.query_scope import NAMESPACE, OVER, Scope
from dashboards.uncatalogued_series import BUDGET_LEFT, OBJECTIVE, SLI_ERROR
from midstreamer.telemetry import label_values, metrics

ASKED = Scope("coordinator")


_LEFT = promql.smallest(promql.series(BUDGET_LEFT, namespace=NAMESPACE), "slo")
_ASKED = promql.largest(promql.series(OBJECTIVE), "slo")


def _burn(window: str) -> str:
    error = promql.largest(promql.series(SLI_ERROR[window], namespace=NAMESPACE), "slo")
    return promql.ratio(error, f"(1 - {_ASKED})")


def _burning(title: str, windows: Windows, consequence: str) -> panels.Panel:
    short, long, rate = windows
    return graph(
        title,
        panels.PLAIN,
        Says(
            f"Burn rate of the error budget over {short} and over {long}. At 1 the budget lasts"
            " exactly for its period of 30 days.",
            f"Both above {rate:g}: {consequence}",
            "Follow the runbook of the alert. The row below shows the errors.",
        ),
        Line(_burn(short), f"{{{{slo}}}} {short}"),
        Line(_burn(long), f"{{{{slo}}}} {long}"),
        limits=above(rate),
        width=8,
    )


_met = Row(
    "Are the objectives met?",
    [
        number(
            "Objective",
            panels.SHARE,
            Says(
                "Share of requests that must meet each objective.",
                "There is no bad value: this is a decision, not a measurement.",
                "docs/explanation/slos.md gives the reasons for these objectives.",
            ),
            Line(_ASKED, "{{slo}}"),
            width=6,
            decimals=2,
        ),
        number(
            "Errors within 3 days",
            panels.SHARE,
            Says(
                "Share of the requests of the last three days that failed the objective.",
                "Above 1 minus the objective.",
                "Look at the rows below.",
            ),
            Line(
                promql.largest(promql.series(SLI_ERROR["3d"], namespace=NAMESPACE), "slo"),
                "{{slo}}",
            ),
            width=6,
            decimals=3,
        ),
        number(
            "Error budget left",
            panels.SHARE,
            Says(
                "Share of the error budget that is left; 100 % is the whole budget.",
                "Below 0: the budget is overspent.",
                "Below a quarter: postpone changes that can wait, and fix what causes the errors.",
            ),
            Line(_LEFT, "{{slo}}"),
            limits=below(0, good=0.25),
            width=12,
        ),
    ],
)

_burns = Row(
    "How fast is the error budget spent?",
    [
        _burning("Burn rate: fast", PAGES[0], "an alert pages."),
        _burning("Burn rate: slower", PAGES[1], "an alert pages."),
        _burning("Burn rate: slow", TICKETS[1], "an alert opens a ticket."),
    ],
)

_what = Row(
    "Which errors spend the budget?",
    [
        graph(
            "Refused and failed requests, by code",
            panels.PER_S,
            Says(
                "Requests per second that coordinators refused or failed, by error code. "
                "Codes that mean a wrong request do not count for the objective.",
                "`overloaded`, `deadline`, `unavailable`, `error`, `store`, `kernel`: "
                "the fleet is the cause.",
                "See docs/reference/errors.md, then the dashboard Coordinator.",
            ),
            Line(
                ASKED.observed(
                    metrics.REQUEST_LATENCY_S, "result", result=promql.none_of(label_values.OK)
                ),
                "{{result}}",
            ),
        ),
        graph(
            "Answers in time",
            panels.SHARE,
            Says(
                "Share of matches answered within 0.2 s, and of appends stored within 0.1 s.",
                "Below the objective of latency.",
                "The dashboard Coordinator shows what requests wait for.",
            ),
            *(
                Line(
                    promql.within(
                        limit,
                        metrics.REQUEST_LATENCY_S,
                        OVER,
                        **ASKED.labels({"frame": frame, "result": label_values.OK}),
                    ),
                    f"{frame} within {limit:g} s",
                )
                for frame, limit in (("Match", 0.2), ("Append", 0.1))
            ),
            most=1,
        ),
    ],
)

BOARD = Board(
    "slo",
    "Objectives",
    "Whether the objectives are met, how fast error budgets are spent, and by which errors.",
    [_met, _burns, _what],
    shows="now-6h",
)
