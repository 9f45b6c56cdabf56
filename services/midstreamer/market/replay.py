"""Replay: history first, then live ticks in event-time order, a decision for every full window.

Each time is a step: all its ticks are appended, then one request decides about every series
that has a tick at it, and the next step begins only when both are durable.  That is what makes
two replays equal to the bit, however many agents there are.  What is stored already is answered
as stored: a replay that was interrupted goes on where it stopped, and looks up the part behind
it instead of matching it again.

An outage may last as long as the client's deadline (``ReplayPlan.patience_s``); each failed attempt
is an event, `Waiting`. A replay knows nothing of screens: `console` and `report` show its events.
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
from midstreamer.market.rows import instant

HISTORY_TICKS = 20_000
"""Ticks of one bulk append: about 320 kB, so that progress moves and no frame is large."""
LOOKUP_DECISIONS = 256
PATIENCE_S = 120.0


class Loading(msgspec.Struct, frozen=True):
    """History is on its way."""

    done: int
    total: int
    stored: int
    repeated: int


class Waiting(msgspec.Struct, frozen=True):
    """An attempt failed; the next one follows."""

    code: str
    message: str
    delay_s: float


class Resumed(msgspec.Struct, frozen=True):
    """Steps whose decisions had all been stored before; nothing was matched again."""

    done: int
    total: int
    ticks: int
    decisions: tuple[Decision, ...]
    verdicts: tuple[Verdict, ...]


class Stepped(msgspec.Struct, frozen=True):
    """One time is over: appended, decided, durable."""

    time: int
    done: int
    """Steps so far, this one included."""
    total: int
    """Steps there are; 0 when nobody knows."""
    ticks: int
    decisions: tuple[Decision, ...]
    verdicts: tuple[Verdict, ...]
    append_s: float
    match_s: float
    """0 when no window was full."""


Event: TypeAlias = Loading | Waiting | Resumed | Stepped


@dataclass(frozen=True)
class ReplayPlan:
    """What is replayed, and how."""

    specification: Specification
    """Its universe is replaced by that of each series."""
    live: Table | AsyncIterator[Step]
    history: Table | None = None
    rate: float | None = None
    """At most so many ticks a second; None: as fast as they become durable."""
    patience_s: float = PATIENCE_S
    """How long one append or match may take, outages included."""

    @property
    def steps(self) -> int:
        """Steps there are; 0 when nobody knows."""
        return len(self.live.step_times()) if isinstance(self.live, Table) else 0


@dataclass
class Replay:
    """One run of a plan; `run` once."""

    client: AsyncClient
    plan: ReplayPlan
    tell: Callable[[Event], None]
    _tails: dict[str, deque[float]] = field(default_factory=dict)
    _done: int = 0

    async def run(self) -> None:
        """Load history, then replay; returns when the feed ends."""
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
        self.tell(Waiting(error.code, error.message, delay_s))

    async def _load(self, history: Table) -> None:
        """Append all of history in bulk, in time order over all series."""
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
        return self._tails.setdefault(series, deque(maxlen=self.plan.specification.window))

    async def _resume(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Take over the steps whose decisions are all stored; give back the others."""
        while chunk := list(itertools.islice(steps, self._steps_at_once())):
            tails = {series: tail.copy() for series, tail in self._tails.items()}
            windows = [self._windows(step) for step in chunk]
            stored, verdicts = await self._stored(windows)
            whole = _count_while(all(_has(stored, each) for each in step) for step in windows)
            if whole:
                await self._take_over(chunk[:whole], windows[:whole], stored, verdicts)
            if whole < len(chunk):
                self._tails = tails
                for step in chunk[:whole]:
                    self._windows(step)
                return itertools.chain(chunk[whole:], steps)
        return iter(())

    def _steps_at_once(self) -> int:
        return max(1, LOOKUP_DECISIONS // max(1, len(self._tails)))

    async def _stored(
        self, windows: Sequence[Sequence[Asked]]
    ) -> tuple[dict[bytes, Decision], dict[bytes, Verdict]]:
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
        """Repeat the ticks, so that a changed value is found out, and tell what was stored."""
        ticks = [tick for step in steps for tick in step.ticks]
        await self.client.append(ticks)
        ids = [each.id for step in windows for each in step]
        self._done += len(steps)
        self.tell(
            Resumed(
                self._done,
                self.plan.steps,
                len(ticks),
                tuple(stored[one] for one in ids),
                tuple(verdicts[one] for one in ids if one in verdicts),
            )
        )

    async def _replay(self, steps: AsyncIterator[Step]) -> None:
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
        decisions: list[Decision] = []
        for specification in dict.fromkeys(each.specification for each in asked):
            windows = [each.window for each in asked if each.specification == specification]
            decisions += await self.client.match_many(windows, specification)
        return decisions

    def _windows(self, step: Step) -> list[Asked]:
        """Take the step's ticks into the tails; the windows that are full."""
        made = []
        for tick in step.ticks:
            tail = self._tail(tick.series)
            tail.append(tick.value)
            if len(tail) == tail.maxlen:
                made.append(_asked(self.plan.specification, tick, tail))
        return made


class Asked(msgspec.Struct, frozen=True):
    """A window that is to be decided about, and the id its experience will have."""

    specification: Specification
    window: Window
    id: bytes


def _asked(specification: Specification, tick: Tick, tail: Iterable[float]) -> Asked:
    universe = universe_of(tick.series)
    if universe != specification.universe:
        specification = msgspec.structs.replace(specification, universe=universe)
    values = plain(np.fromiter(tail, "<f8")).tobytes()
    window = Window(tick.series, tick.time, values)
    return Asked(specification, window, experience_id(specification, window))


def _has(stored: dict[bytes, Decision], asked: Asked) -> bool:
    """Whether this very window was decided; Conflict when another one was, at the same time."""
    decision = stored.get(asked.id)
    if decision is None:
        return False
    if decision.window != asked.window.values:
        raise Conflict(
            f"{asked.window.series} at {instant(asked.window.time)} was decided with other values:"
            " the data changed since it was stored; use a new store or another series name"
        )
    return True


def _count_while(flags: Iterable[bool]) -> int:
    return sum(1 for _ in itertools.takewhile(bool, flags))


async def pause(delay_s: float) -> None:
    """Keep to the rate."""
    await asyncio.sleep(delay_s)


async def each(steps: Iterable[Step]) -> AsyncIterator[Step]:
    """Steps of an iterator that never blocks."""
    for step in steps:
        yield step


async def in_thread(steps: Iterator[Step]) -> AsyncIterator[Step]:
    """Steps of an iterator that may block (standard input), read in a thread."""
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        yield step
