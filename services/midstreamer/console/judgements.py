"""Judgements as tables. Pure functions, which return tables and print nothing."""

from __future__ import annotations

from rich.table import Table

from midstreamer.market.judgement_values import Figure, Judgement, RivalJudgement

HEADINGS = ("hit, all", "hit, signals", "precision", "Brier skill", "coverage")


def table(judgement: Judgement) -> Table:
    """Return a judgement as a table: a row for Midstreamer, and a row for each rival."""
    shown = Table(
        title=f"{judgement.universe}: {judgement.decisions:,} decisions judged,"
        f" {judgement.emitted:,} signals"
        f" (a fixed threshold in hindsight: {judgement.fixed_threshold.emitted:,})",
        caption=_verdict_on_rivals(judgement),
    )
    shown.add_column("")
    for heading in HEADINGS:
        shown.add_column(heading, justify="right")
    shown.add_row(
        "midstreamer",
        _percent(judgement.hit),
        _percent(judgement.precision),
        f"{_percent(judgement.precision)} of {judgement.target:.1%}",
        _percent(judgement.brier_skill),
        f"{_percent(judgement.coverage)} of {judgement.coverage_target:.1%}",
    )
    for rival in judgement.rivals:
        figures = (
            rival.hit, rival.hit_on_emitted, rival.precision_same_count, rival.brier_skill,
        )  # fmt: skip
        shown.add_row(rival.name, *map(_percent, figures), "")
    return shown


def _percent(figure: Figure | None) -> str:
    """Return a figure with its interval as percentages."""
    if figure is None:
        return "-"
    return f"{figure.value:.1%} [{figure.low:.1%}, {figure.high:.1%}]"


def _verdict_on_rivals(judgement: Judgement) -> str:
    """Return one line that names each rival that does better than Midstreamer, and in which
    figures.  If no rival does better, the line says so."""
    if not judgement.rivals:
        return ""
    ahead = [
        f"{rival.name} ({', '.join(_emphasis(rival, name) for name in rival.wins)})"
        for rival in judgement.rivals
        if rival.wins
    ]
    return f"better than midstreamer: {'; '.join(ahead)}" if ahead else "no rival does better"


def _emphasis(rival: RivalJudgement, name: str) -> str:
    """Return the name of a figure.  Add "clearly" if the rival is clearly better in this figure."""
    return f"{name}, clearly" if name in rival.wins_clearly else name
