"""Watch: what a screen shows of a running replay: progress, rates, latest decisions and verdicts.

`Watch` takes each event of the replay and the time of its arrival, and `Watch.panel` renders the
result; `console.replay_screen` decides when to draw. Of each step at most `SHOWN_PER_STEP`
decisions are shown. Signals are chosen before abstentions, so no signal is left out in favour of an
abstention.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.text import Text

from midstreamer.console import decision_tables
from midstreamer.domain.decision import Decision
from midstreamer.domain.verdict import Verdict
from midstreamer.market import replay
from midstreamer.market.replay_tally import Tally
from midstreamer.market.tick_rows import instant

ROWS = 12
"""Maximum number of decisions in the table on the screen."""
SHOWN_PER_STEP = 4
"""Maximum decisions of one step that are shown."""
REMEMBERED = 20_000
"""Maximum number of decisions that are kept, because their verdicts come later. If there are more,
the oldest decision is dropped."""
_BAR = 30
"""Length of a progress bar in characters."""


@dataclass
class Watch:
    """What a screen shows of the replay of one data set or file."""

    title: str
    began: decision_tables.Began = decision_tables.unknown
    """Function that returns the event time of a point; used for the first point of an analog."""
    tally: Tally = field(default_factory=Tally)
    started_s: float | None = None
    """Time when the first new step was complete. Steps that an earlier run had stored are skipped,
    and are not new. Steps and ticks per second are computed from this time on."""
    steps_before: int = 0
    """Number of steps complete at `started_s`."""
    ticks_before: int = 0
    """Number of ticks counted until `started_s`."""
    now_s: float = 0.0
    """Time of the newest event."""
    loading: replay.Loading | None = None
    """The newest event about loading the history; None once the history is loaded."""
    waiting: replay.Waiting | None = None
    """The newest event, if it says that an attempt failed and will be retried; otherwise None."""
    time: int | None = None
    """Event time of the newest step."""
    total: int = 0
    """Steps of the whole replay; 0 when unknown."""
    shown: OrderedDict[bytes, tuple[Decision, Verdict | None]] = field(default_factory=OrderedDict)
    """Decisions to show, each with its verdict once known, by experience id."""
    fresh: deque[Decision] = field(default_factory=lambda: deque(maxlen=ROWS))
    """The most important decisions of recent steps. A plain screen prints some of them, and then
    clears the list."""
    judged: deque[tuple[Decision, Verdict]] = field(default_factory=lambda: deque(maxlen=ROWS))
    """Recent verdicts, each with its decision. A plain screen prints one of them, and then clears
    the list."""

    def take(self, event: replay.Event, now_s: float) -> None:
        """Record one event."""
        self.now_s = now_s
        self.waiting = event if isinstance(event, replay.Waiting) else None
        if isinstance(event, replay.Loading):
            self.loading = event
        elif isinstance(event, replay.Resumed | replay.Stepped):
            self.loading, self.total = None, event.total
            self._verdicts(event.verdicts)
            self._decisions(event.decisions)
        self.tally.take(event)
        if isinstance(event, replay.Resumed):
            self.started_s = None
        if isinstance(event, replay.Stepped):
            self.time = event.time
            if self.started_s is None:
                self.started_s = now_s
                self.steps_before, self.ticks_before = self.tally.steps, self.tally.ticks

    def _decisions(self, decisions: tuple[Decision, ...]) -> None:
        """Choose at most `SHOWN_PER_STEP` decisions of a step, and record them.

        Signals are chosen before abstentions. Among signals, the most confident ones are chosen
        first. The same holds among abstentions.
        """
        ordered = sorted(decisions, key=lambda each: (not each.emitted, -each.confidence))
        for decision in reversed(ordered[:SHOWN_PER_STEP]):
            self.shown[decision.experience_id] = (decision, None)
            self.fresh.append(decision)
        while len(self.shown) > REMEMBERED:
            self.shown.popitem(last=False)

    def _verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        """Add verdicts to the decisions that are shown."""
        for verdict in verdicts:
            row = self.shown.get(verdict.experience_id)
            if row is not None and row[1] is None:
                self.shown[verdict.experience_id] = (row[0], verdict)
                self.judged.append((row[0], verdict))

    @property
    def steps_per_s(self) -> float:
        """Steps per second since `started_s`."""
        return self._rate(self.tally.steps - self.steps_before)

    @property
    def ticks_per_s(self) -> float:
        """Ticks per second since `started_s`."""
        return self._rate(self.tally.ticks - self.ticks_before)

    def _rate(self, count: int) -> float:
        """Return a count divided by the seconds since `started_s`; 0 before that time."""
        if self.started_s is None or self.now_s <= self.started_s:
            return 0.0
        return count / (self.now_s - self.started_s)

    @property
    def remaining_s(self) -> float | None:
        """Seconds to the end at the present rate; None when unknown."""
        if not self.total or not self.steps_per_s:
            return None
        return (self.total - self.tally.steps) / self.steps_per_s

    def progress_line(self) -> Text:
        """Return a line with progress, rate and remaining time."""
        if self.loading is not None:
            share = self.loading.done / max(1, self.loading.total)
            return Text(
                f"{self.title}: history {_bar(share)} {self.loading.done:,} of"
                f" {self.loading.total:,} ticks"
            )
        counts = f"{self.tally.ticks:,} ticks, {self.ticks_per_s:,.0f}/s"
        when = "" if self.time is None else f" {instant(self.time)}"
        if not self.total:
            return Text(f"{self.title}:{when}  {counts}")
        share = self.tally.steps / self.total
        left = "" if self.remaining_s is None else f", {_clock(self.remaining_s)} left"
        return Text(f"{self.title}: {_bar(share)} {share:.0%}{when}  {counts}{left}")

    def counts_line(self) -> Text:
        """Return a line with counts of decisions, signals and verdicts, and the match latency."""
        tally = self.tally
        signals = sum(tally.signals.values())
        kept = f", {tally.right / tally.judged:.1%} right" if tally.judged else ""
        p50_ms, p99_ms = (1000 * tally.match.quantile_s(share) for share in (0.5, 0.99))
        return Text(
            f"{tally.decisions:,} decisions: {signals:,} signals{kept},"
            f" {tally.decisions - signals:,} abstentions; {len(tally.settled):,} verdicts; match"
            f" p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms"
        )

    def waiting_line(self) -> Text:
        """Return a line with the error that delays the replay; empty when there is none."""
        if self.waiting is None:
            return Text()
        return Text(
            f"waiting: error[{self.waiting.code}]: {self.waiting.message}; retry in"
            f" {self.waiting.delay_s:.1f} s",
            "yellow",
        )

    def panel(self) -> RenderableType:
        """Return all lines and the table of decisions, for a terminal."""
        rows = list(self.shown.values())[-ROWS:]
        rows.reverse()
        lines: list[RenderableType] = [self.progress_line(), self.counts_line()]
        if self.waiting is not None:
            lines.append(self.waiting_line())
        judged = [decision_tables.verdict_line(*pair) for pair in list(self.judged)[-4:]]
        return Group(*lines, decision_tables.decisions_table(rows, self.began), *judged)


def _bar(share: float) -> str:
    """Return a progress bar for a share of 0 to 1."""
    full = round(_BAR * min(1.0, share))
    return "━" * full + "╌" * (_BAR - full)


def _clock(seconds: float) -> str:
    """Return seconds as minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
