"""Views: decisions, verdicts and figures as text and tables. Pure: values in, renderables out.

Words of people are used here: a change of a log-transformed series is shown as a percentage,
an interval with its coverage, silence with its reason in a phrase.  Nothing here prints.
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
from midstreamer.market.report import Figure, JudgedPart, Kept, Latency, Part, Report, Rival, Share
from midstreamer.market.rows import instant
from midstreamer.protocol.frames import Surveyed

Began = Callable[[str, int], int | None]
"""(series, position) -> event time of that point, when the console knows it."""

WHY = {
    Reason.FLAT_WINDOW: "flat window",
    Reason.STALE_DATA: "stale data",
    Reason.NO_MEMORY: "no memory yet",
    Reason.WARMING_UP: "warming up",
    Reason.UNBOUNDED: "interval unbounded",
    Reason.UNLICENSED: "not licensed: no proof yet that signals would hold",
    Reason.BELOW_THRESHOLD: "not confident enough",
}
SHORT_WHY = {**WHY, Reason.UNLICENSED: "not licensed"}
_STYLE = {Direction.LONG: "bold green", Direction.SHORT: "bold red"}


def unknown(series: str, position: int) -> int | None:
    """The `Began` of one who knows no dates."""
    return None


def name_of(series: str) -> str:
    """A series without its universe."""
    return series.rpartition("/")[2]


def change_of(change: float, transform: Transform) -> str:
    """A change as people say it: percent for log values, else in the series' own units."""
    if not math.isfinite(change):
        return "∞" if change > 0 else "-∞"
    if transform is Transform.LOG:
        return f"{100 * math.expm1(min(change, 50.0)):+.1f} %"
    return f"{change:+,.4g}"


def interval_of(decision: Decision) -> str:
    """The prediction interval, with its coverage."""
    transform = decision.specification.transform
    low, high = change_of(decision.low, transform), change_of(decision.high, transform)
    return f"{low} … {high} ({decision.specification.coverage:.0%})"


def nearest_of(decision: Decision, began: Began = unknown) -> str:
    """The nearest analog: name, from when to when, how far."""
    nearest = next(iter(decision.matches), None)
    if nearest is None:
        return "no analog"
    return f"{name_of(nearest.series)} {span_of(nearest, began)}, distance {nearest.distance:.2f}"


def span_of(match: Match, began: Began = unknown) -> str:
    """From when to when an analog went; its end alone when its beginning is not known."""
    first = began(match.series, match.start)
    return (
        f"to {instant(match.time)}" if first is None else f"{instant(first)}…{instant(match.time)}"
    )


def said_of(decision: Decision, why: dict[Reason, str] = WHY) -> Text:
    """The signal, or the reason for silence."""
    if decision.direction is not None:
        return Text(f"{decision.direction} {decision.confidence:.0%}", _STYLE[decision.direction])
    reason = why[decision.reason] if decision.reason is not None else "silent"
    return Text(f"silent: {reason}" if why is WHY else reason, "dim")


def became_of(decision: Decision, verdict: Verdict) -> Text:
    """What came of it, beside what was foretold."""
    if verdict.void:
        return Text("cannot be judged: what came has no logarithm", "dim")
    change = change_of(verdict.change, decision.specification.transform)
    inside = "inside" if verdict.covered else "outside"
    if decision.emitted:
        return Text(
            f"{change}, {'right' if verdict.hit else 'wrong'}, {inside} the interval"
        ).append("", "green" if verdict.hit else "red")
    side = "the side it leaned to" if verdict.hit else "against its leaning"
    return Text(f"{change}, {side}, {inside} the interval", "dim")


def decision_line(decision: Decision, began: Began = unknown) -> Text:
    """One decision on one line."""
    horizon = decision.specification.horizon
    line = Text(f"{instant(decision.time)} {name_of(decision.series):<5} ")
    line.append(f"P(rise) {decision.probability:.2f}  in {horizon}: {interval_of(decision)}  ")
    line.append(f"like {nearest_of(decision, began)}  ")
    return line.append_text(said_of(decision))


def verdict_line(decision: Decision, verdict: Verdict) -> Text:
    """One verdict on one line."""
    head = f"{instant(verdict.due_time)} {name_of(decision.series):<5} verdict on"
    said = decision.direction or "silence"
    return Text(f"{head} {said} of {instant(decision.time)}: ").append_text(
        became_of(decision, verdict)
    )


def decisions_table(
    rows: Sequence[tuple[Decision, Verdict | None]], began: Began = unknown
) -> Table:
    """The last decisions, each with its verdict once it has one."""
    table = Table(expand=True, box=None, pad_edge=False, header_style="bold")
    for heading, share in (("time", 3), ("series", 1), ("P(rise)", 1), ("foretold", 4)):
        table.add_column(heading, ratio=share, no_wrap=True)
    table.add_column("nearest analog", ratio=6, no_wrap=True)
    table.add_column("said", ratio=3, no_wrap=True)
    table.add_column("became", ratio=4, no_wrap=True)
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
    """A share with its interval and count."""
    if share is None:
        return nothing
    low, high = 100 * share.low, 100 * share.high
    return f"{share.value:.1%} [{low:.1f}, {high:.1f}] of {share.count:,}"


def latency_text(latency: Latency | None) -> str:
    """Quantiles of a latency."""
    if latency is None:
        return "none measured in this run"
    return f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms of {latency.count:,}"


def part_table(part: Part) -> Table:
    """The summary of one data set."""
    table = Table(box=None, show_header=False, pad_edge=False, title_justify="left")
    table.title = f"{part.data}" + ("" if part.complete else " (stopped before its end)")
    table.title_style = "bold"
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _rows(part):
        table.add_row(label, text)
    return table


def _rows(part: Part) -> list[tuple[str, str]]:
    made = part.specification
    signals = sum(part.signals.values())
    before = f", {part.decisions_repeated:,} of them before" if part.decisions_repeated else ""
    rows = [
        (
            "compared",
            f"windows of {made.window}, {made.measure} band {made.band}, {made.neighbours} nearest,"
            f" horizon {made.horizon}",
        ),
        ("ticks", f"{part.history_ticks:,} of history, {part.ticks:,} replayed"),
        ("decisions", f"{part.decisions:,}{before}, {part.first or 'never'} to {part.last or '-'}"),
        ("signals", f"{signals:,}{_counts(part.signals)}"),
        ("silent", f"{part.decisions - signals:,}{_counts(part.abstentions)}"),
        ("verdicts", f"{part.verdicts:,}, {part.pending:,} still to come"),
        ("precision", f"{share_text(part.precision, 'no signals')}, target {made.target:.0%}"),
        ("base rate", f"{share_text(part.base_rate)} for always saying the same"),
        ("leaning", f"{share_text(part.hit)} of all decisions favoured the side that came"),
        ("coverage", f"{share_text(part.coverage)}, target {made.coverage:.0%}"),
        ("skill", _skill(part)),
        ("match", latency_text(part.match)),
        ("append", latency_text(part.append)),
        ("took", f"{part.duration_s:.1f} s"),
    ]
    if part.outages:
        rows.append(("outages", f"{part.outages:,} attempts repeated"))
    return rows + ([] if part.judged is None else _judged_rows(part.judged))


def _judged_rows(judged: JudgedPart) -> list[tuple[str, str]]:
    """The second half beside its rivals; those that do better are named."""
    ours = (
        f"from {judged.after}: {judged.decisions:,} decisions, {judged.emitted:,} signals (a fixed"
        f" threshold in hindsight: {judged.fixed_threshold_emitted:,}), precision"
        f" {_figure(judged.precision)}, hit {_figure(judged.hit)}, Brier skill"
        f" {_figure(judged.brier_skill)}, coverage {_figure(judged.coverage)}"
    )
    return [("2nd half", ours), *(("rival", _rival(rival)) for rival in judged.rivals)]


def _rival(rival: Rival) -> str:
    clearly = [f"{name} clearly" if name in rival.wins_clearly else name for name in rival.wins]
    return (
        f"{rival.name}: hit {_figure(rival.hit)}, its surest {_figure(rival.precision_same_count)}"
        + (f"; ahead of us in {', '.join(clearly)}" if clearly else "")
    )


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.value:.1%} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _skill(part: Part) -> str:
    if part.brier is None or part.brier_skill is None:
        return "not known"
    return f"Brier {part.brier:.4f}, {part.brier_skill:+.1%} against the share of past rises"


def _counts(counts: dict[str, int]) -> str:
    if not counts:
        return ""
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return " (" + ", ".join(f"{count:,} {name}" for name, count in listed) + ")"


def kept_table(kept: Kept) -> Table:
    """Where everything is."""
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
    """The end of a run."""
    return Group(*(part_table(part) for part in report.parts), kept_table(report.kept))


def series_table(there: Surveyed) -> Table:
    """What is stored of each series."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("series", "ticks", "from", "to", "last value"):
        table.add_column(heading)
    for each in there.series:
        table.add_row(
            each.series,
            f"{each.count:,}",
            instant(each.first_time),
            instant(each.last_time),
            f"{each.last_value:g}",
        )
    return table
