"""What a screen shows of a running replay: progress, rates, the last decisions, their verdicts.

`Watch` takes the replay's events and the time; `panel` makes one picture of it, `console.screen`
decides when to draw.  Signals come first among the decisions of a step, then the most confident
ones: twenty silences look the same, a signal must not drown among them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.text import Text

from midstreamer.console import views
from midstreamer.domain.decision import Decision
from midstreamer.domain.verdict import Verdict
from midstreamer.market import replay
from midstreamer.market.rows import instant
from midstreamer.market.tally import Tally

ROWS = 12
SHOWN_PER_STEP = 4
REMEMBERED = 20_000
"""Decisions kept for the sake of their verdict; the oldest is forgotten first."""
_BAR = 30


@dataclass
class Watch:
    """The picture of one part of a run."""

    title: str
    began: views.Began = views.unknown
    tally: Tally = field(default_factory=Tally)
    started_s: float | None = None
    """When the first live step was over: rates count from there."""
    steps_before: int = 0
    ticks_before: int = 0
    now_s: float = 0.0
    loading: replay.Loading | None = None
    waiting: replay.Waiting | None = None
    time: int | None = None
    total: int = 0
    shown: OrderedDict[bytes, tuple[Decision, Verdict | None]] = field(default_factory=OrderedDict)
    fresh: deque[Decision] = field(default_factory=lambda: deque(maxlen=ROWS))
    """Decisions not yet taken by `take_fresh`, the most telling of each step."""
    judged: deque[tuple[Decision, Verdict]] = field(default_factory=lambda: deque(maxlen=ROWS))

    def take(self, event: replay.Event, now_s: float) -> None:
        """Count and remember one event."""
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
        ordered = sorted(decisions, key=lambda each: (not each.emitted, -each.confidence))
        for decision in reversed(ordered[:SHOWN_PER_STEP]):
            self.shown[decision.experience_id] = (decision, None)
            self.fresh.append(decision)
        while len(self.shown) > REMEMBERED:
            self.shown.popitem(last=False)

    def _verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        for verdict in verdicts:
            row = self.shown.get(verdict.experience_id)
            if row is not None and row[1] is None:
                self.shown[verdict.experience_id] = (row[0], verdict)
                self.judged.append((row[0], verdict))

    @property
    def steps_per_s(self) -> float:
        """Live steps a second since the first one."""
        return self._rate(self.tally.steps - self.steps_before)

    @property
    def ticks_per_s(self) -> float:
        """Live ticks a second since the first step."""
        return self._rate(self.tally.ticks - self.ticks_before)

    def _rate(self, count: int) -> float:
        if self.started_s is None or self.now_s <= self.started_s:
            return 0.0
        return count / (self.now_s - self.started_s)

    @property
    def remaining_s(self) -> float | None:
        """Seconds to the end at this rate; none when nobody can say."""
        if not self.total or not self.steps_per_s:
            return None
        return (self.total - self.tally.steps) / self.steps_per_s

    def progress_line(self) -> Text:
        """Where the replay is, how fast, how long it will take."""
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
        """Decisions, signals, verdicts, latencies so far."""
        tally = self.tally
        signals = sum(tally.signals.values())
        kept = f", {tally.right / tally.judged:.1%} right" if tally.judged else ""
        p50_ms, p99_ms = (1000 * tally.match.quantile_s(share) for share in (0.5, 0.99))
        return Text(
            f"{tally.decisions:,} decisions: {signals:,} signals{kept},"
            f" {tally.decisions - signals:,} silent; {len(tally.settled):,} verdicts; match"
            f" p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms"
        )

    def waiting_line(self) -> Text:
        """What holds the replay up; empty when nothing does."""
        if self.waiting is None:
            return Text()
        return Text(
            f"waiting: error[{self.waiting.code}]: {self.waiting.message}; again in"
            f" {self.waiting.delay_s:.1f} s",
            "yellow",
        )

    def panel(self) -> RenderableType:
        """Everything at once, for a terminal."""
        rows = list(self.shown.values())[-ROWS:]
        rows.reverse()
        lines: list[RenderableType] = [self.progress_line(), self.counts_line()]
        if self.waiting is not None:
            lines.append(self.waiting_line())
        judged = [views.verdict_line(*pair) for pair in list(self.judged)[-4:]]
        return Group(*lines, views.decisions_table(rows, self.began), *judged)


def _bar(share: float) -> str:
    full = round(_BAR * min(1.0, share))
    return "━" * full + "╌" * (_BAR - full)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
