"""Dashboard Reasoning: calibration of probabilities and intervals, signals and abstentions."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import UNIVERSES, Board, Row
from dashboards.panels import Line, Says, above, below, graph, number
from dashboards.query_scope import UNIVERSE, Scope
from midstreamer.domain.decision import Direction
from midstreamer.telemetry import metrics

SAYS = Scope("coordinator")
LEARNS = Scope("sync")
SETTLED = "6h"
"""Window over which settled decisions are counted; a shorter one would contain too few."""
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
    "Is the reasoning calibrated: do outcomes match the stated probabilities?",
    [
        graph(
            "Coverage of intervals",
            panels.SHARE,
            Says(
                f"Coverage: share of the outcomes of the last {SETTLED} that lay inside "
                "their interval, and the target coverage.",
                "Far below the target, over hundreds of outcomes: intervals are too narrow.",
                "Intervals adapt by themselves within some hundred outcomes. If not, the "
                "behaviour of the series has changed: see docs/explanation/reasoning.md.",
            ),
            Line(
                promql.ratio(
                    _settled(metrics.INTERVALS, covered="true"), _settled(metrics.INTERVALS)
                ),
                "{{universe}} inside",
            ),
            Line(
                LEARNS.largest(metrics.INTERVAL_TARGET, BY, universe=UNIVERSE),
                "{{universe}} target",
            ),
            most=1,
        ),
        graph(
            "Directions: right and stated share",
            panels.SHARE,
            Says(
                f"Share of the settled decisions of the last {SETTLED} whose direction "
                "was right, and the mean confidence that was stated. Both should be "
                "equal.",
                "Right less often than stated, over hundreds of decisions.",
                "The streams then lose their licence by themselves, and give no signals.",
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
                "Mean squared distance between the stated probability and the outcome. A "
                "coin toss scores 0.25; smaller is better.",
                "Above 0.25: a coin toss would have been better.",
                "The streams then lose their licence by themselves, and give no signals.",
            ),
            Line(promql.ratio(_settled(metrics.BRIER), _DECIDED), "{{universe}}"),
            limits=above(0.25),
        ),
        graph(
            "Winkler score of intervals",
            panels.COUNT,
            Says(
                "Mean width of intervals plus a penalty for outcomes outside, in units "
                "of the scale of each decision. Smaller is better.",
                "It rises while the coverage does not: intervals became wider than needed.",
                "Compare with earlier values of the same series; there is no absolute limit.",
            ),
            Line(
                promql.ratio(_settled(metrics.WINKLER), _settled(metrics.BOUNDED_INTERVALS)),
                "{{universe}}",
            ),
        ),
    ],
)

_speaks = Row(
    "When are signals given, and why are they not given?",
    [
        graph(
            "Decisions, by outcome",
            panels.PER_S,
            Says(
                "Decisions per second, by outcome: LONG, SHORT, or the reason for an abstention.",
                "`stale_data` or `no_memory`: the reasoning lacks data. Other reasons "
                "are judgements.",
                "stale_data: check on the dashboard Sync and PostgreSQL whether ticks "
                "arrive. no_memory: check on Agents and kernels whether history is "
                "stored.",
            ),
            Line(SAYS.rate(metrics.DECISIONS, "outcome", universe=UNIVERSE), "{{outcome}}"),
            stacked=True,
            width=8,
        ),
        graph(
            "Share of signals",
            panels.SHARE,
            Says(
                "LONG and SHORT as share of all decisions, by universe.",
                "There is no bad value: without a licence, an abstention is right.",
                "Compare with the graph of licences.",
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
                "Learning streams that hold the licence to give signals, and streams "
                "that do not, as sync knows them.",
                "Many streams lose the licence within a day: the market or the data "
                "source has changed.",
                "`midstreamer judge` compares the reasoning with baselines on your data.",
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
    "Are there enough settled decisions for a judgement?",
    [
        number(
            f"Decisions settled within {SETTLED}",
            panels.COUNT,
            Says(
                "Decisions whose outcome is known, by universe.",
                "Below 100: the shares above say little.",
                "Wait, or look at a longer time range.",
            ),
            Line(_DECIDED, "{{universe}}"),
            limits=below(100),
            width=12,
        ),
        graph(
            "Decisions settled",
            panels.PER_S,
            Says(
                "Decisions settled per second: right, wrong, or void, which means that "
                "no outcome is known.",
                "Mostly void: ticks are missing at the times of the outcomes.",
                "Check whether clients append ticks to every series that they match.",
            ),
            Line(LEARNS.rate(metrics.VERDICTS, "hit", universe=UNIVERSE), "{{hit}}"),
            stacked=True,
        ),
    ],
)

BOARD = Board(
    "reasoning",
    "Reasoning",
    "Whether stated probabilities are true, when signals are given, and why not.",
    [_calibrated, _speaks, _enough],
    [UNIVERSES],
    shows="now-24h",
)
