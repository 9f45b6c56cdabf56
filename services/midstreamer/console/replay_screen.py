"""Screens: show a run on a terminal, redrawn in place, or as plain lines in a pipe.

A terminal is redrawn a few times per second. Any other output gets few lines, so that a log of a
run stays readable: progress every two seconds and, in between, a few decisions and verdicts per
second, signals first. Both kinds of screen get the events of the replay in the thread of the event
loop, and never block this thread.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from midstreamer.console import decision_tables
from midstreamer.console.replay_watch import Watch
from midstreamer.console.terminal import console_here
from midstreamer.market import replay

PROGRESS_EVERY_S = 2.0
"""Seconds between two progress lines of a plain screen."""
LINES_EVERY_S = 0.5
"""Seconds between two printings of the latest decisions on a plain screen."""
LINES_AT_ONCE = 2
"""Maximum number of decisions that a plain screen prints at once, one line for each."""
REFRESH_PER_SECOND = 6
"""Redraws of a terminal per second."""


class Screen(Protocol):
    """A display of a run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def say(self, text: str) -> None:
        """Show one line of text."""

    def begin(self, watch: Watch) -> None:
        """From now on, show the replay of one data set or file, which ``watch`` describes."""

    def take(self, event: replay.Event) -> None:
        """Pass one event of the replay to its `Watch`, and show what is new."""

    def show(self, renderable: RenderableType) -> None:
        """Print a table or a text that stays, below all earlier output."""


class LiveScreen:
    """A screen on a terminal, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watch: Watch | None = None
        self._live = Live(
            console=console,
            get_renderable=self._picture,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Show one line of text."""
        self._console.print(Text(text))

    def begin(self, watch: Watch) -> None:
        """From now on, show the replay of one data set or file, which ``watch`` describes."""
        self._watch = watch

    def take(self, event: replay.Event) -> None:
        """Pass one event of the replay to its `Watch`, and show what is new."""
        if self._watch is not None:
            self._watch.take(event, time.monotonic())

    def show(self, renderable: RenderableType) -> None:
        """Print a table or a text that stays, below all earlier output."""
        self._watch = None
        self._console.print(renderable)

    def _picture(self) -> RenderableType:
        """Return what the terminal shows now; rich calls this in its own thread."""
        try:
            return Text() if self._watch is None else self._watch.panel()
        except RuntimeError:
            # The event loop changed the `Watch` while rich's thread was reading it. Show nothing
            # this time; the next redraw follows soon.
            return Text()


class PlainScreen:
    """A screen in a pipe or file: few lines, never redrawn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watch: Watch | None = None
        self._progress_due_s = 0.0
        self._lines_due_s = 0.0
        self._waiting = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch = None

    def say(self, text: str) -> None:
        """Show one line of text."""
        self._line(Text(text))

    def begin(self, watch: Watch) -> None:
        """From now on, show the replay of one data set or file, which ``watch`` describes."""
        self._watch = watch
        self._progress_due_s = self._lines_due_s = 0.0

    def take(self, event: replay.Event) -> None:
        """Pass one event of the replay to its `Watch`, and show what is new."""
        watch, now_s = self._watch, time.monotonic()
        if watch is None:
            return
        watch.take(event, now_s)
        self._wait_line(event, watch)
        if now_s >= self._progress_due_s:
            self._progress_due_s = now_s + PROGRESS_EVERY_S
            self._line(watch.progress_line())
            if watch.tally.decisions:
                self._line(watch.counts_line())
        if now_s >= self._lines_due_s:
            self._lines_due_s = now_s + LINES_EVERY_S
            self._news(watch)

    def show(self, renderable: RenderableType) -> None:
        """Print a table or a text that stays, below all earlier output."""
        self._console.print(renderable, soft_wrap=False)

    def _wait_line(self, event: replay.Event, watch: Watch) -> None:
        """Print a line when an outage begins, when its error changes, and when it ends.  Further
        failed attempts with the same error print nothing."""
        if not isinstance(event, replay.Waiting):
            if self._waiting:
                self._line(Text("continuing"))
            self._waiting = ""
        elif event.code != self._waiting:
            self._waiting = event.code
            self._line(watch.waiting_line())

    def _news(self, watch: Watch) -> None:
        """Print the latest decisions and the latest verdict since the last call.

        Signals come first: an abstention is printed only if there are too few signals, and a
        verdict about an abstention only if there is no verdict about a signal.
        """
        latest = sorted(watch.fresh, key=lambda each: each.emitted)[-LINES_AT_ONCE:]
        for decision in latest:
            self._line(decision_tables.decision_line(decision, watch.began))
        signals = [pair for pair in watch.judged if pair[0].emitted]
        for pair in (signals or list(watch.judged))[-1:]:
            self._line(decision_tables.verdict_line(*pair))
        watch.fresh.clear()
        watch.judged.clear()

    def _line(self, text: Text) -> None:
        """Print one line without folding it."""
        self._console.print(text, soft_wrap=True)


def screen_here() -> Screen:
    """Return the screen that suits standard output."""
    console = console_here()
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)
