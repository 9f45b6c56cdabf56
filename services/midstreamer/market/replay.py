"""Replay: append the history, then live ticks in event-time order, with a decision for each window.

All ticks of one time form a step. First the ticks of the step are appended. Then a decision is
requested on each series that has a tick in the step and enough ticks for a full window. The next
step begins when the ticks and decisions are durable. Therefore two replays give bit-for-bit equal
decisions, however many agents there are. Decisions that are stored already are returned as stored:
an interrupted replay continues where it stopped, and it looks the earlier decisions up instead of
matching again.

After an outage the replay continues, unless a request has taken longer than
``ReplayPlan.patience_s``. Each failed attempt of a request gives a `Waiting` event. A replay has no
display of its own: `console` and `report` show its events.
"""

from __future__ import annotations

import asyncio
import itertools
import time as clocks
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
import numpy as np

from midstreamer.client.api import AsyncClient
from midstreamer.domain.decision import Decision, experience_id
from midstreamer.domain.errors import Conflict, MidstreamerError
from midstreamer.domain.series import Tick, Window, plain, universe_of
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.market.feeds import Step, Table
from midstreamer.market.tick_rows import instant

HISTORY_TICKS = 20_000
"""Ticks in one bulk append: about 320 kB, so that progress is visible and no frame is large."""
LOOKUP_DECISIONS = 256
"""Decisions looked up in one request when a replay continues."""
PATIENCE_S = 120.0
"""Default of ``ReplayPlan.patience_s``, in seconds."""


class Loading(msgspec.Struct, frozen=True):
    """Event: part of the history has been appended."""

    done: int
    """Ticks sent so far."""
    total: int
    """Ticks of the history."""
    stored: int
    """Ticks that were newly stored."""
    repeated: int
    """Ticks that were stored already."""


class Waiting(msgspec.Struct, frozen=True):
    """Event: an attempt of a request failed; it is retried after ``delay_s`` seconds."""

    code: str
    message: str
    delay_s: float


class Resumed(msgspec.Struct, frozen=True):
    """Event: steps were skipped, because all their decisions had been stored before."""

    done: int
    """Steps done so far, including the skipped steps of this event."""
    total: int
    """Steps of the whole replay."""
    ticks: int
    """Ticks in the skipped steps of this event."""
    decisions: tuple[Decision, ...]
    verdicts: tuple[Verdict, ...]


class Stepped(msgspec.Struct, frozen=True):
    """Event: one step is complete; its ticks and decisions are durable."""

    time: int
    done: int
    """Steps done so far, including the step of this event."""
    total: int
    """Steps of the whole replay; 0 when unknown."""
    ticks: int
    decisions: tuple[Decision, ...]
    verdicts: tuple[Verdict, ...]
    append_s: float
    """Duration of the append in seconds."""
    match_s: float
    """Duration of the match in seconds; 0 when no series had a full window."""


Event: TypeAlias = Loading | Waiting | Resumed | Stepped
"""Union of all events that a replay reports."""


@dataclass(frozen=True)
class ReplayPlan:
    """What is replayed, and how."""

    specification: Specification
    """The specification of all decisions, except that each has the universe of its series."""
    live: Table | AsyncIterator[Step]
    """The live ticks, as a whole or step by step."""
    history: Table | None = None
    """Ticks that are appended first, without decisions."""
    rate: float | None = None
    """Maximum ticks per second; None: as fast as they become durable."""
    patience_s: float = PATIENCE_S
    """Maximum seconds that one append or match may take, outages included."""

    @property
    def steps(self) -> int:
        """Number of live steps; 0 when unknown."""
        return len(self.live.step_times()) if isinstance(self.live, Table) else 0


@dataclass
class Replay:
    """One execution of a plan. Call `run` once."""

    client: AsyncClient
    plan: ReplayPlan
    tell: Callable[[Event], None]
    """Function that is called with each event of the replay."""
    _tails: dict[str, deque[float]] = field(default_factory=dict)
    _done: int = 0

    async def run(self) -> None:
        """Append the history, then replay the live ticks; return when they end."""
        before = self.client.deadline_s, self.client.on_retry
        self.client.deadline_s = self.plan.patience_s
        self.client.on_retry = self._retried
        try:
            if self.plan.history is not None:
                await self._load(self.plan.history)
            live = self.plan.live
            if isinstance(live, Table):
                rest = await self._resume(live.steps())
                await self._replay(each(rest))
            else:
                await self._replay(live)
        finally:
            self.client.deadline_s, self.client.on_retry = before

    def _retried(self, error: MidstreamerError, delay_s: float) -> None:
        """Report a failed attempt of the client."""
        self.tell(Waiting(error.code, error.message, delay_s))

    async def _load(self, history: Table) -> None:
        """Append the whole history in bulk, in time order over all series."""
        done = stored = repeated = 0
        self.tell(Loading(0, len(history), 0, 0))
        for at in range(0, len(history), HISTORY_TICKS):
            columns = history.rows(at, at + HISTORY_TICKS).columns()
            answer = await self.client.append(columns)
            done += sum(len(column) for column in columns)
            stored, repeated = stored + answer.stored, repeated + answer.repeated
            self.tell(Loading(done, len(history), stored, repeated))
        for column in history.columns():
            self._tail(column.series).extend(
                column.values_array()[-self.plan.specification.window :].tolist()
            )

    def _tail(self, series: str) -> deque[float]:
        """Return the values of the last ticks of a series, at most as many as a window has."""
        return self._tails.setdefault(series, deque(maxlen=self.plan.specification.window))

    async def _resume(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Skip the leading steps whose decisions are all stored; return the remaining steps."""
        while chunk := list(itertools.islice(steps, self._steps_at_once())):
            tails = {series: tail.copy() for series, tail in self._tails.items()}
            windows = [self._windows(step) for step in chunk]
            stored, verdicts = await self._stored(windows)
            complete = _count_while(all(_has(stored, each) for each in step) for step in windows)
            if complete:
                await self._take_over(chunk[:complete], windows[:complete], stored, verdicts)
            if complete < len(chunk):
                self._tails = tails
                for step in chunk[:complete]:
                    self._windows(step)
                return itertools.chain(chunk[complete:], steps)
        return iter(())

    def _steps_at_once(self) -> int:
        """Return the number of steps whose decisions one request can look up."""
        return max(1, LOOKUP_DECISIONS // max(1, len(self._tails)))

    async def _stored(
        self, windows: Sequence[Sequence[Asked]]
    ) -> tuple[dict[bytes, Decision], dict[bytes, Verdict]]:
        """Return the stored decisions and verdicts of these windows, by experience id."""
        found = await self.client.lookup(each.id for step in windows for each in step)
        return (
            {decision.experience_id: decision for decision in found.decisions},
            {verdict.experience_id: verdict for verdict in found.verdicts},
        )

    async def _take_over(
        self,
        steps: Sequence[Step],
        windows: Sequence[Sequence[Asked]],
        stored: dict[bytes, Decision],
        verdicts: dict[bytes, Verdict],
    ) -> None:
        """Report the stored decisions of skipped steps.

        The ticks of these steps are appended again first, so that a tick with a changed value is
        refused.
        """
        ticks = [tick for step in steps for tick in step.ticks]
        await self.client.append(ticks)
        ids = [each.id for step in windows for each in step]
        self._done += len(steps)
        self.tell(
            Resumed(
                self._done,
                self.plan.steps,
                len(ticks),
                tuple(stored[id_] for id_ in ids),
                tuple(verdicts[id_] for id_ in ids if id_ in verdicts),
            )
        )

    async def _replay(self, steps: AsyncIterator[Step]) -> None:
        """Append the ticks of each step and request its decisions, step after step."""
        total = self.plan.steps
        due_s = clocks.monotonic()
        async for step in steps:
            started_s = clocks.perf_counter()
            receipt = await self.client.append(step.ticks)
            appended_s = clocks.perf_counter()
            decisions = await self._decide(self._windows(step))
            matched_s = clocks.perf_counter()
            self._done += 1
            self.tell(
                Stepped(
                    step.time,
                    self._done,
                    total,
                    len(step.ticks),
                    tuple(decisions),
                    receipt.verdicts,
                    appended_s - started_s,
                    matched_s - appended_s if decisions else 0.0,
                )
            )
            if self.plan.rate is not None:
                due_s = max(due_s + len(step.ticks) / self.plan.rate, clocks.monotonic() - 1.0)
                await pause(max(0.0, due_s - clocks.monotonic()))

    async def _decide(self, asked: Sequence[Asked]) -> list[Decision]:
        """Return the decisions on these windows; each universe has its own specification."""
        decisions: list[Decision] = []
        for specification in dict.fromkeys(each.specification for each in asked):
            windows = [each.window for each in asked if each.specification == specification]
            decisions += await self.client.match_many(windows, specification)
        return decisions

    def _windows(self, step: Step) -> list[Asked]:
        """Add the ticks of a step to the last points of their series; return the full windows."""
        full = []
        for tick in step.ticks:
            tail = self._tail(tick.series)
            tail.append(tick.value)
            if len(tail) == tail.maxlen:
                full.append(_asked(self.plan.specification, tick, tail))
        return full


class Asked(msgspec.Struct, frozen=True):
    """A window to decide on, and the id that its decision will have."""

    specification: Specification
    window: Window
    id: bytes


def _asked(specification: Specification, tick: Tick, tail: Iterable[float]) -> Asked:
    """Return the window that ends with this tick."""
    universe = universe_of(tick.series)
    if universe != specification.universe:
        specification = msgspec.structs.replace(specification, universe=universe)
    values = plain(np.fromiter(tail, "<f8")).tobytes()
    window = Window(tick.series, tick.time, values)
    return Asked(specification, window, experience_id(specification, window))


def _has(stored: dict[bytes, Decision], asked: Asked) -> bool:
    """Return whether the decision on this window is stored.

    Conflict is raised when the stored decision of the same time was made on other values.
    """
    decision = stored.get(asked.id)
    if decision is None:
        return False
    if decision.window != asked.window.values:
        raise Conflict(
            f"the stored decision on {asked.window.series} at {instant(asked.window.time)} used"
            " other values: the data have changed since; use a new store or another series name"
        )
    return True


def _count_while(flags: Iterable[bool]) -> int:
    """Return how many flags are true before the first that is false."""
    return sum(1 for _ in itertools.takewhile(bool, flags))


async def pause(delay_s: float) -> None:
    """Wait ``delay_s`` seconds, so that a replay keeps to its maximum rate."""
    await asyncio.sleep(delay_s)


async def each(steps: Iterable[Step]) -> AsyncIterator[Step]:
    """Turn an iterator that never blocks into an async iterator."""
    for step in steps:
        yield step


async def in_thread(steps: Iterator[Step]) -> AsyncIterator[Step]:
    """Yield the steps of an iterator that may block, such as standard input; a thread reads it."""
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        yield step
