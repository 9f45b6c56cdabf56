"""Reasoning: whether what it says about chances is true, and where it speaks."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import UNIVERSES, Board, Row
from dashboards.panels import Line, Says, above, below, graph, number
from dashboards.scope import UNIVERSE, Scope
from midstreamer.domain.decision import Direction
from midstreamer.telemetry import metrics

SAYS = Scope("coordinator")
LEARNS = Scope("sync")
SETTLED = "6h"
"""Over how long settled decisions are judged: fewer say little."""
SIGNALS = tuple(sorted(Direction))
BY = "universe"


def _settled(metric: promql.Metric, **more: promql.Wanted) -> str:
    return LEARNS.increase(metric, SETTLED, BY, universe=UNIVERSE, **more)


_DECIDED = _settled(metrics.VERDICTS, hit=promql.among("true", "false"))
_SILENT = promql.ratio(
    SAYS.rate(metrics.DECISIONS, BY, universe=UNIVERSE, outcome=promql.none_of(*SIGNALS)),
    SAYS.rate(metrics.DECISIONS, BY, universe=UNIVERSE),
)

_calibrated = Row(
    "Is it calibrated: do things come as often as it says?",
    [
        graph(
            "Intervals: how many outcomes lay inside",
            panels.SHARE,
            Says(
                f"Share of the outcomes of the last {SETTLED} that lay inside their interval,"
                " beside the share that should.",
                "Far below what was asked, over hundreds of outcomes: intervals are too narrow.",
                "It adapts by itself within some hundred outcomes. If it does not, the series has"
                " changed its kind: docs/explanation/reasoning.md.",
            ),
            Line(
                promql.ratio(
                    _settled(metrics.INTERVALS, covered="true"), _settled(metrics.INTERVALS)
                ),
                "{{universe}} inside",
            ),
            Line(
                LEARNS.largest(metrics.INTERVAL_TARGET, BY, universe=UNIVERSE),
                "{{universe}} asked for",
            ),
            most=1,
        ),
        graph(
            "Directions: how often it was right",
            panels.SHARE,
            Says(
                f"Share of the settled decisions of the last {SETTLED} whose side came, beside"
                " the confidence that was stated for them. Both should be the same.",
                "Right less often than stated, over hundreds of decisions.",
                "The licence is then lost by itself, and signals end.",
            ),
            Line(
                promql.ratio(_settled(metrics.VERDICTS, hit="true"), _DECIDED),
                "{{universe}} right",
            ),
            Line(promql.ratio(_settled(metrics.CONFIDENCE), _DECIDED), "{{universe}} stated"),
            most=1,
        ),
        graph(
            "Brier score",
            panels.COUNT,
            Says(
                "The mean squared distance of the stated probability from what came. A coin has"
                " 0.25; smaller is better.",
                "Above 0.25: a coin would have been better.",
                "As of directions.",
            ),
            Line(promql.ratio(_settled(metrics.BRIER), _DECIDED), "{{universe}}"),
            limits=above(0.25),
        ),
        graph(
            "Winkler score of intervals",
            panels.COUNT,
            Says(
                "The mean width of intervals and the penalty for what they missed, in units of"
                " the scale of each decision. Smaller is better.",
                "It rises while coverage does not: intervals became wide without need.",
                "Compare with the same series before; there is no absolute limit.",
            ),
            Line(
                promql.ratio(_settled(metrics.WINKLER), _settled(metrics.BOUNDED_INTERVALS)),
                "{{universe}}",
            ),
        ),
    ],
)

_speaks = Row(
    "Where does it speak, and why is it silent?",
    [
        graph(
            "Decisions, by what was said",
            panels.PER_S,
            Says(
                "Decisions each second: LONG, SHORT, or the reason for silence.",
                "`stale_data` or `no_memory`: it has not what it needs. The others are judgement.",
                "stale_data: do ticks arrive, on Sync and PostgreSQL? no_memory: is history"
                " stored, on Agents and kernels?",
            ),
            Line(SAYS.rate(metrics.DECISIONS, "outcome", universe=UNIVERSE), "{{outcome}}"),
            stacked=True,
            width=8,
        ),
        graph(
            "Signals, as share of decisions",
            panels.SHARE,
            Says(
                "LONG and SHORT as share of all decisions, by universe.",
                "There is no bad value: without a licence it is right to be silent.",
                "Compare with the licences below.",
            ),
            Line(
                f"1 - {_SILENT}",
                "{{universe}}",
            ),
            most=1,
            width=8,
        ),
        graph(
            "Learning streams with a licence",
            panels.COUNT,
            Says(
                "Streams that hold the licence to give signals and those that do not, as sync"
                " knows them.",
                "Many lose it within a day: the market, or the feed, has changed.",
                "`midstreamer judge` compares the reasoning with its rivals on your data.",
            ),
            Line(
                LEARNS.largest(metrics.LICENCES, BY, "held", universe=UNIVERSE),
                "{{universe}} held: {{held}}",
            ),
            width=8,
        ),
    ],
)

_enough = Row(
    "Is there enough to judge it by?",
    [
        number(
            f"Decisions settled within {SETTLED}",
            panels.COUNT,
            Says(
                "Decisions whose outcome came, by universe.",
                "Below a hundred: shares above say little.",
                "Wait; or look at a longer time.",
            ),
            Line(_DECIDED, "{{universe}}"),
            limits=below(100),
            width=12,
        ),
        graph(
            "Decisions settled",
            panels.PER_S,
            Says(
                "Decisions settled each second: right, wrong, or void, where no outcome came.",
                "Mostly void: ticks are missing where outcomes should be.",
                "Do clients append every series that they match?",
            ),
            Line(LEARNS.rate(metrics.VERDICTS, "hit", universe=UNIVERSE), "{{hit}}"),
            stacked=True,
        ),
    ],
)

BOARD = Board(
    "reasoning",
    "Reasoning",
    "Whether what is said about chances is true, where it speaks, and why it is silent.",
    [_calibrated, _speaks, _enough],
    [UNIVERSES],
    shows="now-24h",
)
