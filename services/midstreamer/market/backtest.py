"""Backtest: a whole universe in one process, walked forward with the code that runs live.

At each time, in this order: points arrive, decisions that came due are judged and learned, then
each series that has a new point is decided on, all with one state, and those decisions are
learned.  It is the order in which a fleet is replayed, over the same `outcome` rules, kernels and
`reasoning`, so a backtest gives the decisions that a replay of the same ticks gives.

Nothing later than a time can reach its decisions: analogs end by `outcome.known_until` of the
points there were, counts are taken up to there, and verdicts are made from the point just come.

Absent on purpose: costs, positions, profit.  What is judged is whether what was said was true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

import midstreamer_kernels as kernels
from midstreamer import reasoning
from midstreamer.analogs import search
from midstreamer.analogs.ledger import Ledger
from midstreamer.analogs.search import Analogs
from midstreamer.domain import outcome
from midstreamer.domain.decision import Decision, Evidence
from midstreamer.domain.errors import BadInput
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Floats, Integers, Window
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict

_Event = TypeVar("_Event", Decision, Verdict)


class Points(NamedTuple):
    """One series: times, strictly increasing, and raw values, both of shape (n,)."""

    times: Integers
    values: Floats


class Memory:
    """All grid windows of a universe, searched as of a number of points of each series."""

    def __init__(self, universe: Mapping[str, Points], specification: Specification) -> None:
        self.names = tuple(sorted(universe))
        self.specification = specification
        self.times = [universe[name].times for name in self.names]
        self.points = [
            outcome.history(universe[name].values, specification.transform) for name in self.names
        ]
        self._histories = [
            kernels.History(outcome.searchable(points), dtype="float64") for points in self.points
        ]
        self._ledgers = [_ledger(universe[name].values, specification) for name in self.names]
        self._laid = search.ground(
            [ledger.first for ledger in self._ledgers],
            [
                ledger.settled(len(own)).outcomes
                for ledger, own in zip(self._ledgers, self.points, strict=True)
            ],
            [own[specification.window - 1 :: specification.grid] for own in self.times],
        )

    def counts(self, ends: Sequence[int]) -> tuple[int, int, int]:
        """(ups, known, barred) of the windows whose outcome is known when so many points are."""
        horizon = self.specification.horizon
        settled = [
            ledger.settled(outcome.known_until(end, horizon))
            for ledger, end in zip(self._ledgers, ends, strict=True)
        ]
        return (
            sum(one.ups for one in settled),
            sum(one.known for one in settled),
            sum(one.barred for one in settled),
        )

    def nearest(self, query: Floats, ends: Sequence[int], *, barred: int, band: int) -> Analogs:
        """The nearest windows to a transformed query, shape (m,), among those known by then."""
        specification = self.specification
        if band != specification.band:
            specification = msgspec.structs.replace(specification, band=band)
        runs = [
            kernels.Run(history, 0, end, max(0, outcome.known_until(end, specification.horizon)))
            for history, end in zip(self._histories, ends, strict=True)
        ]
        return search.whole(search.nearest(runs, query, specification, self._laid, barred=barred))

    def window(self, row: int, end: int) -> Floats:
        """The transformed window whose last point is the ``end``-th of a series."""
        return self.points[row][end - self.specification.window : end]


def _ledger(values: Floats, specification: Specification) -> Ledger:
    ledger = Ledger(0, len(values), specification)
    while not ledger.extend(values, 0):
        pass
    return ledger


class Walk:
    """One pass over a universe; iterate it, once, for its events in event-time order.

    Parameters
    ----------
    universe
        Points by series, named in full.
    specification
        What is compared and foretold.
    start
        Decide only about windows that end at this time or later; None: as soon as there are m
        points and one window that may be an analog.
    stop
        Take in only points before this time.
    state
        What was learned before; None begins with nothing.
    """

    def __init__(
        self,
        universe: Mapping[str, Points],
        specification: Specification,
        *,
        start: int | None = None,
        stop: int | None = None,
        state: State | None = None,
    ) -> None:
        if not universe:
            raise BadInput("a backtest needs at least one series")
        self.memory = Memory(universe, specification)
        self.state = state or reasoning.initial(specification)
        self._values = [universe[name].values for name in self.memory.names]
        self._start, self._stop = start, stop
        self._due: dict[tuple[int, int], Decision] = {}

    def __iter__(self) -> Iterator[Decision | Verdict]:
        for time, fresh, ends in self._steps():
            for row in fresh:
                decided = self._due.pop((row, ends[row] - 1), None)
                # As in sync: what a value without a logarithm would settle stays without verdict.
                if decided is not None and not np.isnan(self.memory.points[row][ends[row] - 1]):
                    value = float(self._values[row][ends[row] - 1])
                    yield self._learned(reasoning.judge(decided, value, time))
            for decision in self._decide(time, fresh, ends):
                yield self._learned(decision)

    def _learned(self, event: _Event) -> _Event:
        self.state = reasoning.learn(self.state, event)
        return event

    def _steps(self) -> Iterator[tuple[int, list[int], list[int]]]:
        """(time, series with a point at it, points of each series up to it), time by time."""
        times = self.memory.times
        ends = [0] * len(times)
        for time in np.unique(np.concatenate(times)).tolist():
            if self._stop is not None and time >= self._stop:
                return
            fresh = [
                row
                for row, own in enumerate(times)
                if ends[row] < len(own) and own[ends[row]] == time
            ]
            for row in fresh:
                ends[row] += 1
            yield time, fresh, ends

    def _decide(self, time: int, fresh: list[int], ends: list[int]) -> list[Decision]:
        """Decide on every fresh series with one state; none sees another of this time."""
        if self._start is not None and time < self._start:
            return []
        ups, known, barred = self.memory.counts(ends)
        if self._start is None and not known:
            return []
        made = []
        for row in fresh:
            if not self._askable(row, ends[row]):
                continue
            evidence = self._evidence(row, time, ends, barred=barred)
            evidence = msgspec.structs.replace(evidence, ups=ups, known=known)
            decision = reasoning.decide(evidence, self.state)
            self._due[row, decision.due_index] = decision
            made.append(decision)
        return made

    def _askable(self, row: int, end: int) -> bool:
        """Whether there is a window, and a coordinator would not refuse it."""
        length = self.memory.specification.window
        return end >= length and not np.isnan(self.memory.window(row, end)).any()

    def _evidence(self, row: int, time: int, ends: list[int], *, barred: int) -> Evidence:
        specification, end = self.memory.specification, ends[row]
        query = self.memory.window(row, end)
        analogs = self.memory.nearest(query, ends, barred=barred, band=specification.band)
        values = self._values[row][end - specification.window : end]
        return Evidence(
            specification=specification,
            window=Window(self.memory.names[row], time, values.astype("<f8").tobytes()),
            matches=search.matches(analogs, self.memory.names, np.arange(len(self.memory.names))),
            index=end - 1,
            kernel=kernels.__version__,
        )


class Record(NamedTuple):
    """All decisions and verdicts of a walk, in event-time order, and what was learned."""

    decisions: list[Decision]
    verdicts: list[Verdict]
    state: State


def record(walk: Walk) -> Record:
    """Walk to the end; decisions are kept without their analogs, which would need gigabytes."""
    decisions: list[Decision] = []
    verdicts: list[Verdict] = []
    for event in walk:
        if isinstance(event, Verdict):
            verdicts.append(event)
        else:
            decisions.append(msgspec.structs.replace(event, matches=Matches(), window=b""))
    return Record(decisions, verdicts, walk.state)
