"""One search: the windows of a request against the shards asked for, as Evidence.

All that is said of a window holds *as of its time*: of each series only the points up to then
exist, and of its past windows only those whose outcome was known, with an embargo of another
horizon, are analogs (`outcome.known_until`).  Points that came later change nothing.

The kernels do not know of outcomes, so they may return windows that are no analogs because they
are flat or touch a value without a logarithm.  As many more are asked for as there are of these,
and they are left out: exact, and free where there are none.

Runs in a thread: nothing here touches the loop.
"""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.agent import pieces
from midstreamer.agent.shards import Held
from midstreamer.domain import outcome
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import BadInput, DeadlineExceeded, KernelFailure
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Floats, Integers, Window
from midstreamer.domain.specification import Measure, Specification
from midstreamer.telemetry import metrics

_NO_FLOATS: Floats = np.empty(0)
_NO_INTEGERS: Integers = np.empty(0, dtype=np.int64)


Steps = Generator[None, None, list[Evidence]]
"""A search that is under way; it goes on in whichever thread takes its next step."""


@dataclass(frozen=True)
class _Prospect:
    """What there is to be compared as of one time; arrays run over all analogs, row by row."""

    runs: list[kernels.Run]
    firsts: Integers
    """First analog's position, for each row, shape (shards,)."""
    offsets: Integers
    """Where each row begins in the arrays below, shape (shards,)."""
    outcomes: Floats
    times: Integers
    """Of the analogs' last points."""
    ups: int
    known: int
    barred: int
    """Windows that are searched and are no analogs."""


class Search:
    """The shards of one request, prepared; answers its windows one after another."""

    def __init__(self, specification: Specification, shards: Sequence[Held], engine: str) -> None:
        # Ties in distance go by row: series by name, then position, as in the merge.
        self._shards = sorted(shards, key=lambda held: held.shard)
        self._specification = specification
        self._engine = engine
        self._prospects: dict[int, _Prospect] = {}
        self._names = sorted({held.shard.series for held in self._shards})
        place_of = {name: place for place, name in enumerate(self._names)}
        places = [place_of[held.shard.series] for held in self._shards]
        self._name_of_row = np.array(places, dtype=np.int64)

    def answer(self, windows: Sequence[Window], expired: Callable[[], bool]) -> list[Evidence]:
        """Evidence for each window; DeadlineExceeded as soon as nobody waits any more."""
        steps = self.steps(windows, expired)
        while (made := step(steps)) is None:
            pass
        return made

    def steps(self, windows: Sequence[Window], expired: Callable[[], bool]) -> Steps:
        """The same, pausing where others may have the thread: see `agent.pieces`."""
        made: list[Evidence] = []
        for window in windows:
            if expired():
                raise DeadlineExceeded(
                    f"{len(made)} of {len(windows)} windows were searched when the time ran out"
                )
            made.append((yield from self._answer(window, expired)))
        return made

    def _answer(
        self, window: Window, expired: Callable[[], bool]
    ) -> Generator[None, None, Evidence]:
        specification = self._specification
        prospect = self._prospect(window.time)
        began_s = clocks.perf_counter()
        which, start, distance = yield from self._nearest(window, prospect, expired)
        metrics.DTW_LATENCY_MS.observe(1000.0 * (clocks.perf_counter() - began_s))
        metrics.PATTERN_MATCHES.labels(measure=specification.measure).inc()
        index, newest = self._place(window)
        differs_at, stored = self._difference(window, index)
        return Evidence(
            specification=specification,
            window=window,
            matches=self._matches(prospect, which, start, distance),
            index=index,
            newest=newest,
            ups=prospect.ups,
            known=prospect.known,
            kernel=kernels.__version__,
            agrees=differs_at < 0,
            differs_at=differs_at,
            stored=stored,
        )

    def _prospect(self, time: int) -> _Prospect:
        """Windows of one frame mostly share their time: prepare each once."""
        if time not in self._prospects:
            self._prospects[time] = self._prepare(time)
        return self._prospects[time]

    def _prepare(self, time: int) -> _Prospect:
        specification = self._specification
        length, grid = specification.window, specification.grid
        runs, firsts, outcomes, times = [], [], [_NO_FLOATS], [_NO_INTEGERS]
        ups = known = barred = 0
        for held in self._shards:
            until = outcome.known_until(held.count_until(time), specification.horizon)
            history = held.history(specification.transform, length)
            runs.append(kernels.Run(history, held.first, held.last, until))
            ledger = held.ledger(specification)
            settled = ledger.settled(until)
            firsts.append(ledger.first)
            outcomes.append(settled.outcomes)
            ends = held.times()[ledger.first - held.first + length - 1 :: grid]
            times.append(ends[: len(settled.outcomes)])
            ups, known = ups + settled.ups, known + settled.known
            barred += settled.barred
        counts = [len(part) for part in outcomes[:-1]]
        return _Prospect(
            runs,
            np.array(firsts, dtype=np.int64),
            np.cumsum(counts, dtype=np.int64),
            np.concatenate(outcomes),
            np.concatenate(times),
            ups,
            known,
            barred,
        )

    def _nearest(
        self, window: Window, prospect: _Prospect, expired: Callable[[], bool]
    ) -> pieces.Steps:
        specification = self._specification
        found = pieces.nearest(
            prospect.runs,
            outcome.transformed(window.array(), specification.transform),
            specification.neighbours + prospect.barred,
            specification,
            self._engine,
        )
        try:
            while True:
                next(found)
                yield
                if expired():
                    raise DeadlineExceeded("the time ran out while a window was compared")
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # what `pieces.Steps` returns
        except kernels.InputError as error:
            raise BadInput(str(error)) from error
        except kernels.KernelError as error:
            raise KernelFailure(str(error)) from error

    def _matches(
        self, prospect: _Prospect, which: Integers, start: Integers, distance: Floats
    ) -> Matches:
        grid = self._specification.grid
        places = prospect.offsets[which] + (start - prospect.firsts[which]) // grid
        outcomes = prospect.outcomes[places]
        kept = np.flatnonzero(~np.isnan(outcomes))[: self._specification.neighbours]
        names, renamed = np.unique(self._name_of_row[which[kept]], return_inverse=True)
        return Matches(
            tuple(self._names[name] for name in names),
            renamed.astype("<u2").tobytes(),
            start[kept].astype("<i8").tobytes(),
            prospect.times[places[kept]].astype("<i8").tobytes(),
            distance[kept].astype("<f8").tobytes(),
            outcomes[kept].astype("<f8").tobytes(),
        )

    def _place(self, window: Window) -> tuple[int, bool]:
        """(index, newest), as far as these shards can tell: -1 and True otherwise."""
        index, newest = -1, True
        for held in self._shards:
            if held.shard.series != window.series:
                continue
            count = held.count_until(window.time)
            if count > held.first and held.times()[count - 1 - held.first] == window.time:
                index = count - 1
            elif held.sees_past(count):
                newest = False
        return index, newest

    def _difference(self, window: Window, index: int) -> tuple[int, float | None]:
        """(place, what is stored there) of the first value that is not the stored one; -1: none.

        Every shard that knows where the window ends looks at the points it holds.  The one that
        owns the window's first point holds all of them, so together they miss nothing.
        """
        if index < 0:
            return -1, None
        begin = index + 1 - self._specification.window
        if begin < 0:
            return 0, None  # the series is shorter than the window
        apart = [
            held.difference(begin, window.array())
            for held in self._shards
            if held.shard.series == window.series and held.first <= index < held.end
        ]
        return min(((place, stored) for place, stored in apart if place >= 0), default=(-1, None))


def step(steps: Steps) -> list[Evidence] | None:
    """Go on with a search until it pauses; what it found once it is done, else None."""
    try:
        next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # what `Steps` returns
    return None


def warm_up(engine: str) -> None:
    """Load or compile the kernels, which may take long the first time, before it matters."""
    history = kernels.History(np.sin(np.arange(64.0)), dtype="float64")
    for measure in Measure:
        kernels.nearest(
            [kernels.Run(history)],
            np.cos(np.arange(8.0)),
            2,
            measure=measure.value,
            epsilon=0.1,
            band=1,
            engine=engine,
        )
