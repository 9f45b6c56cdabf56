"""Objectives: whether they are met, how fast the budget of errors burns, and what burns it."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import Board, Row
from dashboards.burning import PAGES, TICKETS, Windows
from dashboards.panels import Line, Says, above, below, graph, number
from dashboards.scope import NAMESPACE, OVER, Scope
from dashboards.series import BUDGET_LEFT, OBJECTIVE, SLI_ERROR
from midstreamer.telemetry import metrics, words

ASKED = Scope("coordinator")


_LEFT = promql.smallest(promql.series(BUDGET_LEFT, namespace=NAMESPACE), "slo")
_ASKED = promql.largest(promql.series(OBJECTIVE), "slo")


def _burn(window: str) -> str:
    error = promql.largest(promql.series(SLI_ERROR[window], namespace=NAMESPACE), "slo")
    return promql.ratio(error, f"(1 - {_ASKED})")


def _burning(title: str, windows: Windows, who: str) -> panels.Panel:
    short, long, rate = windows
    return graph(
        title,
        panels.PLAIN,
        Says(
            f"How many times faster than allowed errors come, over {short} and over {long}: at 1"
            " the budget lasts exactly for its period.",
            f"Both above {rate:g}: {who}",
            "The runbook of the alert; the row below says what burns.",
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
            "Asked for",
            panels.SHARE,
            Says(
                "Share of requests that each objective asks for.",
                "It is a decision, not a measurement.",
                "docs/explanation/slos.md says why these.",
            ),
            Line(_ASKED, "{{slo}}"),
            width=6,
            decimals=2,
        ),
        number(
            "Errors within 3 days",
            panels.SHARE,
            Says(
                "Share of the requests of three days that failed the objective.",
                "Above one less what is asked for.",
                "The rows below.",
            ),
            Line(
                promql.largest(promql.series(SLI_ERROR["3d"], namespace=NAMESPACE), "slo"),
                "{{slo}}",
            ),
            width=6,
            decimals=3,
        ),
        number(
            "Budget of errors that is left",
            panels.SHARE,
            Says(
                "What is left of the errors that the objective allows: all at 100 %.",
                "Below 0 it is overdrawn.",
                "Below a quarter: leave out changes that can wait, mend what burns.",
            ),
            Line(_LEFT, "{{slo}}"),
            limits=below(0, good=0.25),
            width=12,
        ),
    ],
)

_burns = Row(
    "How fast does the budget burn?",
    [
        _burning("Fast", PAGES[0], "somebody is called."),
        _burning("Slower", PAGES[1], "somebody is called."),
        _burning("Slowly", TICKETS[1], "there is a ticket."),
    ],
)

_what = Row(
    "What burns it?",
    [
        graph(
            "Answers that were no success, by code",
            panels.PER_S,
            Says(
                "What coordinators refused or failed each second, by code. Not every code counts:"
                " what the client asked wrongly does not.",
                "`overloaded`, `deadline`, `unavailable`, `error`, `store`, `kernel`: ours.",
                "docs/reference/errors.md; then the board Coordinator.",
            ),
            Line(
                ASKED.observed(
                    metrics.REQUEST_LATENCY_S, "result", result=promql.none_of(words.OK)
                ),
                "{{result}}",
            ),
        ),
        graph(
            "Answers in time",
            panels.SHARE,
            Says(
                "Share of matches that were answered within 0.2 s, and of appends that were"
                " stored within 0.1 s.",
                "Below what the objective of latency asks for.",
                "The board Coordinator says what they wait for.",
            ),
            *(
                Line(
                    promql.within(
                        limit,
                        metrics.REQUEST_LATENCY_S,
                        OVER,
                        **ASKED.labels({"frame": frame, "result": words.OK}),
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
    "Whether the objectives are met, how fast the budget of errors burns, and what burns it.",
    [_met, _burns, _what],
    shows="now-6h",
)
