"""One search: find the analogs of a request's windows in some shards, and return Evidence.

The result for a window is computed *as of the time of the window*: only points up to that time are
used, and points that came later do not change the result.  A past window may be an analog only if
its outcome was known at least one horizon before that time (the embargo, see
`outcome.known_until`).

The code runs in worker threads and does not touch the event loop.  The event loop stops a search
with a `midstreamer_kernels.Stop`; the search then ends within milliseconds.
"""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.agent.shard_data import Held
from midstreamer.analogs import search
from midstreamer.domain import outcome
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import DeadlineExceeded
from midstreamer.domain.series import Window
from midstreamer.domain.specification import Measure, Specification
from midstreamer.telemetry import metrics, tracing

Steps = Generator[None, None, list[Evidence]]
"""A search under way, as a generator.  Any thread may run its next step.  When the search is done,
the generator returns one Evidence for each window."""


@dataclass(frozen=True)
class _Prospect:
    """The past windows that are compared with the query windows of one time.

    All query windows of a request that end at the same time share one `_Prospect`.  ``runs`` has
    one entry for each shard, and ``laid`` has one row for each shard.
    """

    runs: list[kernels.Run]
    laid: search.Ground
    ups: int
    """Number of past windows whose outcome was a rise."""
    known: int
    """Number of past windows whose outcome is known and not zero."""
    barred: int
    """Number of past windows that cannot be analogs: flat windows, and windows with an unusable
    value in them or at their outcome (see `outcome.history`).  The kernels compare these too."""


class Search:
    """Searches some shards for analogs of the windows of one request, one window after another."""

    def __init__(self, specification: Specification, shards: Sequence[Held], engine: str) -> None:
        # The kernels return analogs at equal distances in the order of their rows. The coordinator
        # (`domain.match.merge`) orders them by series, then by position. So sort the rows this way.
        self._shards = sorted(shards, key=lambda held: held.shard)
        self._specification = specification
        self._engine = engine
        self._prospects: dict[int, _Prospect] = {}
        self._names = sorted({held.shard.series for held in self._shards})
        place_of = {name: place for place, name in enumerate(self._names)}
        places = [place_of[held.shard.series] for held in self._shards]
        self._name_of_row = np.array(places, dtype=np.int64)

    def answer(self, windows: Sequence[Window], stop: kernels.Stop | None = None) -> list[Evidence]:
        """Return one Evidence for each window.  Raise DeadlineExceeded once ``stop`` is set."""
        return search.whole(self.steps(windows, stop or kernels.Stop()))

    def steps(self, windows: Sequence[Window], stop: kernels.Stop) -> Steps:
        """Return a generator that searches all windows and yields between pieces of the work.

        At each yield the thread may run another search (see `analogs.search_in_pieces`).  The
        generator returns one Evidence for each window, and raises DeadlineExceeded once ``stop`` is
        set.
        """
        findings: list[Evidence] = []
        for window in windows:
            if stop.is_set():
                raise DeadlineExceeded(
                    f"the search was stopped after {len(findings)} of {len(windows)} windows: its"
                    " deadline has passed, or the coordinator has cancelled it"
                )
            findings.append((yield from self._answer(window, stop)))
        return findings

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
        """Return the past windows to compare with a window of this time.  They are prepared once
        for each time and cached, because most windows of one request have the same time."""
        if time not in self._prospects:
            try:
                self._prospects[time] = self._prepare(time, stop)
            except kernels.StoppedError as error:
                raise DeadlineExceeded(
                    "the search was stopped while it prepared its shards: its deadline has passed,"
                    " or the coordinator has cancelled it"
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
        """Look up the last point of a window, by the window's time, in the shards here.

        Return the index of the point in its series; -1 when no shard here has a point of this time.
        The second value is False when a shard here proves that the series has no point at exactly
        the window's time; else True.
        """
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
        """Return where a window first differs from the stored points, and the stored value there.

        The place is an index in the window; it is -1 when there is no difference.

        Each shard here that holds the last point of the window compares all points of the window
        that it holds.  Such a shard may lack the first points of the window.  But the shard that
        owns the window holds all points of the window, and is searched here or by another agent.
        So no difference is missed.
        """
        if index < 0:
            return -1, None
        begin = index + 1 - self._specification.window
        if begin < 0:
            # The window begins before the series does, so its value at index 0 is not stored.
            return 0, None
        differences = [
            held.difference(begin, window.array())
            for held in self._shards
            if held.shard.series == window.series and held.first <= index < held.end
        ]
        return min(
            ((place, stored) for place, stored in differences if place >= 0), default=(-1, None)
        )


def next_step(steps: Steps) -> Callable[[], list[Evidence] | None]:
    """Return a function that runs the next step of a search.  A thread calls it later; the tracing
    span of the step then belongs to the span that is open now."""
    context = tracing.context()
    if context is None:
        return partial(step, steps)
    return partial(context.run, _traced_step, steps)


def _traced_step(steps: Steps) -> list[Evidence] | None:
    with tracing.span("kernel"):
        return step(steps)


def step(steps: Steps) -> list[Evidence] | None:
    """Run a search until its next pause.  Return the Evidence of its windows when it is done, else
    None."""
    began_s = clocks.perf_counter()
    try:
        next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # what `Steps` returns
    finally:
        metrics.KERNEL_BUSY_S.inc(clocks.perf_counter() - began_s)
    return None


def warm_up(engine: str) -> None:
    """Load or compile the kernels at the start, so that the first search does not wait for them."""
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
