"""Backtest: run the decisions of a whole universe in one process, with the code that runs live.

At each time, in this order: the new points are added; the decisions that are now due are judged and
learned; every series with a new point gets a decision, all from the same state; these decisions are
learned. A fleet processes a replay in the same order, with the same `outcome` rules, kernels and
`reasoning`. So a backtest gives the decisions that a replay of the same ticks gives.

A decision never depends on anything later than its own time. Only windows whose outcome was known
at that time (`outcome.known_until`) can be analogs, and only these windows count for climatology.
A verdict is given when the outcome of its decision is known, and uses no later point.

Costs, positions and profit are deliberately not modelled. The backtest measures only whether the
forecasts were right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

import midstreamer_kernels as kernels
from midstreamer import reasoning
from midstreamer.analogs import search
from midstreamer.analogs.outcome_ledger import Ledger
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
    """The points of one series."""

    times: Integers
    """Event times in microseconds, int64, shape (n,), strictly increasing."""
    values: Floats
    """Untransformed values, float64, shape (n,)."""


class Memory:
    """All grid windows of a universe; one row holds the windows of one series.

    `counts` and `nearest` answer for the time of one decision. Their argument ``ends`` gives the
    number of points that each row had at that time; all later points are ignored.
    """

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
                ledger.settled(len(points)).outcomes
                for ledger, points in zip(self._ledgers, self.points, strict=True)
            ],
            [times[specification.window - 1 :: specification.grid] for times in self.times],
        )

    def counts(self, ends: Sequence[int]) -> tuple[int, int, int]:
        """Return (ups, known, barred): how many past windows are of each of three kinds.

        ``ups`` counts windows that were followed by a rise. ``known`` counts windows whose outcome
        is known and not zero. ``barred`` counts windows that cannot be analogs, such as flat ones.

        Each count is a sum over all rows. In row i, only the first ``ends[i]`` points are used. A
        window is counted only if all its points lie before the position that `outcome.known_until`
        returns for ``ends[i]``.
        """
        horizon = self.specification.horizon
        settled = [
            ledger.settled(outcome.known_until(end, horizon))
            for ledger, end in zip(self._ledgers, ends, strict=True)
        ]
        return (
            sum(part.ups for part in settled),
            sum(part.known for part in settled),
            sum(part.barred for part in settled),
        )

    def nearest(self, query: Floats, ends: Sequence[int], *, barred: int, band: int) -> Analogs:
        """Return the past windows nearest to a transformed query of shape (m,).

        In row i, only the first ``ends[i]`` points are used. A window is found only if all its
        points lie before the position that `outcome.known_until` returns for ``ends[i]``: then its
        outcome was known at the time of the decision. ``barred`` is the number of barred windows,
        which `counts` returns for the same ``ends``.
        """
        specification = self.specification
        if band != specification.band:
            specification = msgspec.structs.replace(specification, band=band)
        runs = [
            kernels.Run(history, 0, end, max(0, outcome.known_until(end, specification.horizon)))
            for history, end in zip(self._histories, ends, strict=True)
        ]
        return search.whole(search.nearest(runs, query, specification, self._laid, barred=barred))

    def window(self, row: int, end: int) -> Floats:
        """Return the transformed window that ends before position ``end`` of a row, shape (m,)."""
        return self.points[row][end - self.specification.window : end]


def _ledger(values: Floats, specification: Specification) -> Ledger:
    """Return the outcomes of all grid windows of a series."""
    ledger = Ledger(0, len(values), specification)
    while not ledger.extend(values, 0):
        pass
    return ledger


class Walk:
    """One backtest over a universe. Iterate it, once, for its events in event-time order.

    Parameters
    ----------
    universe
        Points of each series, by full name.
    specification
        What is compared and what is forecast.
    start
        Decide only on windows that end at this time or later. With None, decide as soon as there
        are m points and at least one window that may be an analog.
    stop
        Use only points before this time.
    state
        The learning state to begin with; None begins with a new state.
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
                # A value that cannot be compared, such as the logarithm of 0, gives no verdict.
                # (Sync gives a void verdict, from which nothing is learned either.)
                if decided is not None and not np.isnan(self.memory.points[row][ends[row] - 1]):
                    value = float(self._values[row][ends[row] - 1])
                    yield self._learned(reasoning.judge(decided, value, time))
            for decision in self._decide(time, fresh, ends):
                yield self._learned(decision)

    def _learned(self, event: _Event) -> _Event:
        """Add an event to the state and return the event."""
        self.state = reasoning.learn(self.state, event)
        return event

    def _steps(self) -> Iterator[tuple[int, list[int], list[int]]]:
        """Yield, in time order, (time, rows with a new point, count of points so far per row)."""
        times = self.memory.times
        ends = [0] * len(times)
        for time in np.unique(np.concatenate(times)).tolist():
            if self._stop is not None and time >= self._stop:
                return
            fresh = [
                row
                for row, row_times in enumerate(times)
                if ends[row] < len(row_times) and row_times[ends[row]] == time
            ]
            for row in fresh:
                ends[row] += 1
            yield time, fresh, ends

    def _decide(self, time: int, fresh: list[int], ends: list[int]) -> list[Decision]:
        """Return the decisions on all series with a new point; all of them use the same state."""
        if self._start is not None and time < self._start:
            return []
        ups, known, barred = self.memory.counts(ends)
        if self._start is None and not known:
            return []
        decisions = []
        for row in fresh:
            if not self._askable(row, ends[row]):
                continue
            evidence = self._evidence(row, time, ends, barred=barred)
            evidence = msgspec.structs.replace(evidence, ups=ups, known=known)
            decision = reasoning.decide(evidence, self.state)
            self._due[row, decision.due_index] = decision
            decisions.append(decision)
        return decisions

    def _askable(self, row: int, end: int) -> bool:
        """Return whether the window before ``end`` has m values that can all be compared.

        ``row`` is the row of the series in `Memory`. A coordinator refuses all other windows.
        """
        length = self.memory.specification.window
        return end >= length and not np.isnan(self.memory.window(row, end)).any()

    def _evidence(self, row: int, time: int, ends: list[int], *, barred: int) -> Evidence:
        """Return the evidence for the newest window of one series."""
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
    """All decisions and verdicts of a backtest in event-time order, and the final state."""

    decisions: list[Decision]
    verdicts: list[Verdict]
    state: State


def record(walk: Walk) -> Record:
    """Run a backtest to its end. Return all verdicts, and all decisions without their analogs.

    The analogs are dropped because they would need gigabytes.
    """
    decisions: list[Decision] = []
    verdicts: list[Verdict] = []
    for event in walk:
        if isinstance(event, Verdict):
            verdicts.append(event)
        else:
            decisions.append(msgspec.structs.replace(event, matches=Matches(), window=b""))
    return Record(decisions, verdicts, walk.state)
