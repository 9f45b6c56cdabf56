"""One search: the windows of a request against the shards asked for, as Evidence.

All that is said of a window holds *as of its time*: of each series only the points up to then
exist, and of its past windows only those whose outcome was known, with an embargo of another
horizon, are analogs (`outcome.known_until`).  Points that came later change nothing.

Runs in a thread: nothing here touches the loop.  A `kernels.Stop` that is set by the loop ends it
within milliseconds, whatever it is at.
"""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.agent.shards import Held
from midstreamer.analogs import search
from midstreamer.domain import outcome
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import DeadlineExceeded
from midstreamer.domain.series import Window
from midstreamer.domain.specification import Measure, Specification
from midstreamer.telemetry import metrics, tracing

Steps = Generator[None, None, list[Evidence]]
"""A search that is under way; it goes on in whichever thread takes its next step."""


@dataclass(frozen=True)
class _Prospect:
    """What there is to be compared as of one time; a row for each shard."""

    runs: list[kernels.Run]
    laid: search.Ground
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

    def answer(self, windows: Sequence[Window], stop: kernels.Stop | None = None) -> list[Evidence]:
        """Evidence for each window; DeadlineExceeded as soon as ``stop`` is set."""
        return search.whole(self.steps(windows, stop or kernels.Stop()))

    def steps(self, windows: Sequence[Window], stop: kernels.Stop) -> Steps:
        """The same, pausing where others may have the thread: see `analogs.pieces`."""
        made: list[Evidence] = []
        for window in windows:
            if stop.is_set():
                raise DeadlineExceeded(
                    f"{len(made)} of {len(windows)} windows were searched when it was stopped"
                )
            made.append((yield from self._answer(window, stop)))
        return made

    def _answer(self, window: Window, stop: kernels.Stop) -> Generator[None, None, Evidence]:
        specification = self._specification
        prospect = self._prospect(window.time, stop)
        began_s = clocks.perf_counter()
        analogs = yield from search.nearest(
            prospect.runs,
            outcome.transformed(window.array(), specification.transform),
            specification,
            prospect.laid,
            barred=prospect.barred,
            engine=self._engine,
            stop=stop,
        )
        metrics.DTW_LATENCY_MS.observe(1000.0 * (clocks.perf_counter() - began_s))
        metrics.PATTERN_MATCHES.labels(measure=specification.measure).inc()
        index, newest = self._place(window)
        differs_at, stored = self._difference(window, index)
        return Evidence(
            specification=specification,
            window=window,
            matches=search.matches(analogs, self._names, self._name_of_row),
            index=index,
            newest=newest,
            ups=prospect.ups,
            known=prospect.known,
            kernel=kernels.__version__,
            agrees=differs_at < 0,
            differs_at=differs_at,
            stored=stored,
        )

    def _prospect(self, time: int, stop: kernels.Stop) -> _Prospect:
        """Windows of one frame mostly share their time: prepare each once."""
        if time not in self._prospects:
            try:
                self._prospects[time] = self._prepare(time, stop)
            except kernels.StoppedError as error:
                raise DeadlineExceeded(
                    "the shards were being prepared when their search was stopped"
                ) from error
        return self._prospects[time]

    def _prepare(self, time: int, stop: kernels.Stop) -> _Prospect:
        specification = self._specification
        length, grid = specification.window, specification.grid
        runs, firsts, outcomes, times = [], [], [], []
        ups = known = barred = 0
        for held in self._shards:
            until = outcome.known_until(held.count_until(time), specification.horizon)
            history = held.history(specification.transform, length)
            runs.append(kernels.Run(history, held.first, held.last, until))
            ledger = held.ledger(specification, stop)
            settled = ledger.settled(until)
            firsts.append(ledger.first)
            outcomes.append(settled.outcomes)
            times.append(held.times()[ledger.first - held.first + length - 1 :: grid])
            ups, known = ups + settled.ups, known + settled.known
            barred += settled.barred
        return _Prospect(runs, search.ground(firsts, outcomes, times), ups, known, barred)

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


def next_step(steps: Steps) -> Callable[[], list[Evidence] | None]:
    """What a thread is to call: `step`, in the span that is open here."""
    context = tracing.context()
    if context is None:
        return partial(step, steps)
    return partial(context.run, _traced_step, steps)


def _traced_step(steps: Steps) -> list[Evidence] | None:
    with tracing.span("kernel"):
        return step(steps)


def step(steps: Steps) -> list[Evidence] | None:
    """Go on with a search until it pauses; what it found once it is done, else None."""
    began_s = clocks.perf_counter()
    try:
        next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # what `Steps` returns
    finally:
        metrics.KERNEL_BUSY_S.inc(clocks.perf_counter() - began_s)
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
