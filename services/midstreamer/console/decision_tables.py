"""Views: decisions, verdicts and figures as text and tables. Pure functions: nothing here prints.

Values are shown as people say them: a change of a log-transformed series as a percentage, an
interval with its coverage, an abstention with its reason in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from midstreamer.domain.decision import Decision, Direction, Reason
from midstreamer.domain.match import Match
from midstreamer.domain.specification import Transform
from midstreamer.domain.verdict import Verdict
from midstreamer.market.judgement_values import Figure
from midstreamer.market.report import JudgedPart, Kept, Latency, Part, Report, Rival, Share
from midstreamer.market.tick_rows import instant
from midstreamer.protocol.frames import Surveyed

Began = Callable[[str, int], int | None]
"""Function that returns the event time of the point at a position of a series; None when the time
is unknown."""

WHY = {
    Reason.FLAT_WINDOW: "flat window",
    Reason.STALE_DATA: "stale data",
    Reason.NO_MEMORY: "too few analogs",
    Reason.WARMING_UP: "warming up",
    Reason.UNBOUNDED: "interval unbounded",
    Reason.UNLICENSED: "not licensed: no evidence yet that precision would hold",
    Reason.BELOW_THRESHOLD: "not confident enough",
}
"""Each reason for an abstention, in words."""
SHORT_WHY = {**WHY, Reason.UNLICENSED: "not licensed"}
"""Each reason for an abstention, in few words, for a column of a table."""
_STYLE = {Direction.LONG: "bold green", Direction.SHORT: "bold red"}


def unknown(series: str, position: int) -> int | None:
    """Return None; callers that do not know the times of points pass this function as `Began`."""
    return None


def name_of(series: str) -> str:
    """Return the name of a series without its universe."""
    return series.rpartition("/")[2]


def change_of(change: float, transform: Transform) -> str:
    """Return a change as text: in percent for log values, else in the units of the series."""
    if not math.isfinite(change):
        return "∞" if change > 0 else "-∞"
    if transform is Transform.LOG:
        return f"{100 * math.expm1(min(change, 50.0)):+.1f} %"
    return f"{change:+,.4g}"


def interval_of(decision: Decision) -> str:
    """Return the prediction interval with its coverage, as text."""
    transform = decision.specification.transform
    low, high = change_of(decision.low, transform), change_of(decision.high, transform)
    return f"{low} … {high} ({decision.specification.coverage:.0%})"


def nearest_of(decision: Decision, began: Began = unknown) -> str:
    """Return the nearest analog as text: series, time span and distance."""
    nearest = next(iter(decision.matches), None)
    if nearest is None:
        return "no analog"
    return f"{name_of(nearest.series)} {span_of(nearest, began)}, distance {nearest.distance:.2f}"


def span_of(match: Match, began: Began = unknown) -> str:
    """Return the time span of an analog as text; only its end when its beginning is unknown."""
    first = began(match.series, match.start)
    return (
        f"to {instant(match.time)}" if first is None else f"{instant(first)}…{instant(match.time)}"
    )


def said_of(decision: Decision, why: dict[Reason, str] = WHY) -> Text:
    """Return a signal with its confidence as text.  For an abstention, return its reason in the
    words of ``why``."""
    if decision.direction is not None:
        return Text(f"{decision.direction} {decision.confidence:.0%}", _STYLE[decision.direction])
    reason = why[decision.reason] if decision.reason is not None else "abstained"
    return Text(f"abstained: {reason}" if why is WHY else reason, "dim")


def became_of(decision: Decision, verdict: Verdict) -> Text:
    """Return the change after a decision as text, and whether the forecast was right about it."""
    if verdict.void:
        return Text("cannot be judged: the outcome's value cannot be compared", "dim")
    change = change_of(verdict.change, decision.specification.transform)
    inside = "inside" if verdict.covered else "outside"
    if decision.emitted:
        return Text(
            f"{change}, {'right' if verdict.hit else 'wrong'}, {inside} the interval"
        ).append("", "green" if verdict.hit else "red")
    side = "the favoured direction" if verdict.hit else "not the favoured direction"
    return Text(f"{change}, {side}, {inside} the interval", "dim")


def decision_line(decision: Decision, began: Began = unknown) -> Text:
    """Return one decision as one line of text."""
    horizon = decision.specification.horizon
    line = Text(f"{instant(decision.time)} {name_of(decision.series):<5} ")
    line.append(f"P(rise) {decision.probability:.2f}  in {horizon}: {interval_of(decision)}  ")
    line.append(f"like {nearest_of(decision, began)}  ")
    return line.append_text(said_of(decision))


def verdict_line(decision: Decision, verdict: Verdict) -> Text:
    """Return one verdict as one line of text."""
    head = f"{instant(verdict.due_time)} {name_of(decision.series):<5} verdict on"
    side = decision.direction or "abstention"
    return Text(f"{head} {side} of {instant(decision.time)}: ").append_text(
        became_of(decision, verdict)
    )


def decisions_table(
    rows: Sequence[tuple[Decision, Verdict | None]], began: Began = unknown
) -> Table:
    """Return a table of these decisions, each with its outcome if its verdict is known."""
    table = Table(expand=True, box=None, pad_edge=False, header_style="bold")
    for heading, share in (("time", 3), ("series", 1), ("P(rise)", 1), ("forecast", 4)):
        table.add_column(heading, ratio=share, no_wrap=True)
    table.add_column("nearest analog", ratio=6, no_wrap=True)
    table.add_column("signal", ratio=3, no_wrap=True)
    table.add_column("outcome", ratio=4, no_wrap=True)
    for decision, verdict in rows:
        table.add_row(
            instant(decision.time),
            name_of(decision.series),
            f"{decision.probability:.2f}",
            interval_of(decision),
            nearest_of(decision, began),
            said_of(decision, SHORT_WHY),
            became_of(decision, verdict) if verdict is not None else Text("…", "dim"),
        )
    return table


def share_text(share: Share | None, nothing: str = "none") -> str:
    """Return a share with its interval and its count, as text; ``nothing`` for no share."""
    if share is None:
        return nothing
    low, high = 100 * share.low, 100 * share.high
    return f"{share.value:.1%} [{low:.1f}, {high:.1f}] of {share.count:,}"


def latency_text(latency: Latency | None) -> str:
    """Return the quantiles of a latency, as text."""
    if latency is None:
        return "none measured in this run"
    return f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms of {latency.count:,}"


def part_table(part: Part) -> Table:
    """Return the summary of one data set as a table."""
    table = Table(box=None, show_header=False, pad_edge=False, title_justify="left")
    table.title = f"{part.data}" + ("" if part.complete else " (stopped before its end)")
    table.title_style = "bold"
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _rows(part):
        table.add_row(label, text)
    return table


def _rows(part: Part) -> list[tuple[str, str]]:
    """Return the lines of the summary, each as a label and a text."""
    specification = part.specification
    signals = sum(part.signals.values())
    before = f", {part.decisions_repeated:,} from earlier runs" if part.decisions_repeated else ""
    rows = [
        (
            "compared",
            f"windows of {specification.window}, {specification.measure} band"
            f" {specification.band}, {specification.neighbours} nearest,"
            f" horizon {specification.horizon}",
        ),
        ("ticks", f"{part.history_ticks:,} of history, {part.ticks:,} replayed"),
        ("decisions", f"{part.decisions:,}{before}, {part.first or 'never'} to {part.last or '-'}"),
        ("signals", f"{signals:,}{_counts(part.signals)}"),
        ("abstentions", f"{part.decisions - signals:,}{_counts(part.abstentions)}"),
        ("verdicts", f"{part.verdicts:,}, {part.pending:,} pending"),
        (
            "precision",
            f"{share_text(part.precision, 'no signals')}, target {specification.target:.0%}",
        ),
        ("base rate", f"{share_text(part.base_rate)} for always the same direction"),
        ("hit rate", f"{share_text(part.hit)} of all decisions favoured the right direction"),
        ("coverage", f"{share_text(part.coverage)}, target {specification.coverage:.0%}"),
        ("Brier skill", _skill(part)),
        ("match", latency_text(part.match)),
        ("append", latency_text(part.append)),
        ("took", f"{part.duration_s:.1f} s"),
    ]
    if part.outages:
        rows.append(("outages", f"{part.outages:,} attempts retried"))
    return rows + ([] if part.judged is None else _judged_rows(part.judged))


def _judged_rows(judged: JudgedPart) -> list[tuple[str, str]]:
    """Return one line with Midstreamer's figures, and one line for each rival.

    All figures are for the second half of the replay.  The first half is not judged, because the
    stream still learns there.
    """
    ours = (
        f"from {judged.after}: {judged.decisions:,} decisions, {judged.emitted:,} signals (a fixed"
        f" threshold in hindsight: {judged.fixed_threshold_emitted:,}), precision"
        f" {_figure(judged.precision)}, hit {_figure(judged.hit)}, Brier skill"
        f" {_figure(judged.brier_skill)}, coverage {_figure(judged.coverage)}"
    )
    return [("2nd half", ours), *(("rival", _rival(rival)) for rival in judged.rivals)]


def _rival(rival: Rival) -> str:
    """Return the figures of one rival as text."""
    clearly = [f"{name} clearly" if name in rival.wins_clearly else name for name in rival.wins]
    return (
        f"{rival.name}: hit {_figure(rival.hit)}, on its most confident decisions"
        f" {_figure(rival.precision_same_count)}"
        + (f"; better than midstreamer in {', '.join(clearly)}" if clearly else "")
    )


def _figure(figure: Figure | None) -> str:
    """Return a figure with its interval as text."""
    if figure is None:
        return "-"
    return f"{figure.value:.1%} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _skill(part: Part) -> str:
    """Return Brier skill and Brier score as text."""
    if part.brier is None or part.brier_skill is None:
        return "unknown"
    return f"{part.brier_skill:+.1%} over the share of past rises; Brier score {part.brier:.4f}"


def _counts(counts: dict[str, int]) -> str:
    """Return counts by name as text in parentheses, largest first."""
    if not counts:
        return ""
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return " (" + ", ".join(f"{count:,} {name}" for name, count in listed) + ")"


def kept_table(kept: Kept) -> Table:
    """Return a table that shows where the data of a run are, and how many rows are stored."""
    table = Table(box=None, show_header=False, pad_edge=False, title_justify="left")
    table.title, table.title_style = "kept", "bold"
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("state", kept.state)
    table.add_row(
        "database",
        f"{kept.database}: {kept.ticks:,} ticks, {kept.decisions:,} decisions,"
        f" {kept.verdicts:,} verdicts",
    )
    table.add_row("logs", kept.logs)
    table.add_row("certificates", kept.certificates)
    return table


def summary(report: Report) -> RenderableType:
    """Return the summary printed at the end of a run."""
    return Group(*(part_table(part) for part in report.parts), kept_table(report.kept))


def series_table(surveyed: Surveyed) -> Table:
    """Return the table of the stored series."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("series", "ticks", "from", "to", "last value"):
        table.add_column(heading)
    for each in surveyed.series:
        table.add_row(
            each.series,
            f"{each.count:,}",
            instant(each.first_time),
            instant(each.last_time),
            f"{each.last_value:g}",
        )
    return table
