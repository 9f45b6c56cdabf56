"""Search: the nearest windows of a history, or of many, exactly.

A window is every run of m consecutive points, m the length of the query; its position is that of
its first point, counted from the history's `start`. Distances are computed in float64 from the
stored points, and each is a pure function of the window and the query. So neither the engine, nor
pruning, nor the cut of one history into overlapping parts changes a bit of an answer.

`nearest` searches many histories with one shared best-so-far, in one call without the GIL;
`History.search` is the same for one.

Deliberately absent: an index. Statistics of windows are kept, everything else is computed.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.band import half_width
from midstreamer_kernels.engines import Backend, backend
from midstreamer_kernels.errors import OptionError, QueryTooLongError
from midstreamer_kernels.options import (
    POSITION_MAX,
    THREADS_MAX,
    checked_count,
    checked_distance,
    checked_epsilon,
    checked_flag,
    checked_matches,
    checked_measure,
    checked_position,
)
from midstreamer_kernels.plan import COLUMNS, COUNT, FIRST
from midstreamer_kernels.series import Floats, filled, floats
from midstreamer_kernels.stop import NEVER, Stop
from midstreamer_kernels.storage import Snapshot, Storage

EVERY_MATCH = POSITION_MAX  # what k=None asks the engines for
_DTYPES = ("float32", "float64")

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Matches:
    """Windows found, nearest first; equal distances by lower position."""

    index: NDArray[np.int64]
    """Absolute positions of the windows' first points, shape (found,)."""
    distance: NDArray[np.float64]
    """Their distances, shape (found,)."""

    def __len__(self) -> int:
        return int(self.index.size)


@dataclass(frozen=True, slots=True)
class Run:
    """The part of a history that `nearest` searches; positions are absolute."""

    history: History
    first: int | None = None
    """Only windows that begin here or later; None from the history's start."""
    last: int | None = None
    """Only windows that begin before this; None to the end."""
    until: int | None = None
    """Only windows whose points all lie before this; None to the end."""


class _Plan(NamedTuple):
    """Checked options of a search."""

    query: NDArray[np.float64]
    k: int
    step: int
    band: int
    normalized: bool
    lcss: bool
    epsilon: float
    cutoff: float
    backend: Backend
    stop: Stop


def _plan(
    query: ArrayLike,
    k: int | None,
    *,
    measure: str,
    epsilon: float | None,
    band: int | None,
    normalize: bool,
    step: int,
    cutoff: float | None,
    engine: str,
    stop: Stop | None,
) -> _Plan:
    points = cast("NDArray[np.float64]", filled(query, name="query", dtype=np.float64))
    lcss = checked_measure(measure) == "lcss"
    return _Plan(
        points,
        checked_matches(k, cutoff, most=EVERY_MATCH, of="windows"),
        checked_count(step, name="step", most=POSITION_MAX),
        half_width(band, points.size, points.size),
        checked_flag(normalize, name="normalize"),
        lcss,
        checked_epsilon(epsilon) if lcss else 0.0,
        checked_distance(cutoff, name="cutoff"),
        backend(engine),
        NEVER if stop is None else stop,
    )


class History:
    """A growing series whose windows can be searched.

    Parameters
    ----------
    values : array_like, shape (n,)
        The first points.
    start : int
        Absolute position of the first point, at least 0.
    dtype : {"float32", "float64"}
        How points are kept; distances are computed in float64 from what is kept.
    engine : {"auto", "numba", "wasm"}

    Notes
    -----
    Memory: 4 or 8 bytes per point, and 16 for the statistics of the windows of each of the last 8
    lengths searched; a search takes 4 more while it lasts. A new point costs the statistics of one
    window.
    Appending and searching are safe from several threads.

    A search is exact: what comes out is what comparing every window in float64 gives, to the bit.
    Cost: a coarse lower bound of some thirty operations for each window, a fine one, O(m), for
    those near enough, and O(m * band) for the few that neither rules out. With `exclusion` the
    search is repeated for four times as many matches until `k` of them keep their distance.

    Do not use `exclusion` when you look at what *followed* the matches. A window is then kept
    because the next one matched less well, which tells of its future, and whatever is computed from
    outcomes is biased: on a random walk, a chance of one half comes out as one third or two thirds.
    Take a fixed grid (`step`) instead.
    """

    __slots__ = ("_engine", "storage")

    def __init__(
        self,
        values: ArrayLike = (),
        *,
        start: int = 0,
        dtype: str = "float32",
        engine: str = "auto",
    ) -> None:
        number = _checked_dtype(dtype)
        backend(engine)  # refuse an unknown name now, not at the first search
        self._engine = engine
        begin = checked_count(start, name="start", least=0, most=POSITION_MAX // 2)
        self.storage = Storage(number, begin)
        self.append(values)

    @property
    def start(self) -> int:
        """Absolute position of the first point."""
        return self.storage.start

    @property
    def end(self) -> int:
        """Absolute position after the last point."""
        return self.storage.start + self.storage.count

    def __len__(self) -> int:
        return self.storage.count

    def append(self, values: ArrayLike) -> None:
        """Add points at the end: all, or none when one is refused (`NotFiniteError`)."""
        self.storage.append(floats(values, name="values", dtype=self.storage.dtype))

    def window(self, index: int, length: int) -> Floats:
        """Return a copy of the `length` points from absolute position `index`, as kept."""
        index = checked_position(index, name="index")
        length = checked_position(length, name="length")
        begin = index - self.start
        if begin < 0 or length < 1 or index + length > self.end:
            raise OptionError(
                f"points [{index}, {index + length}) are not in [{self.start}, {self.end})"
            )
        return self.storage.read(begin, begin + length)

    def search(
        self,
        query: ArrayLike,
        k: int | None = 1,
        *,
        measure: str = "dtw",
        epsilon: float | None = None,
        band: int | None = None,
        normalize: bool = True,
        step: int = 1,
        exclusion: int | None = None,
        cutoff: float | None = None,
        first: int | None = None,
        last: int | None = None,
        until: int | None = None,
        threads: int = 1,
        stop: Stop | None = None,
    ) -> Matches:
        """Return the `k` windows nearest to `query`; fewer when there are fewer.

        Parameters
        ----------
        query : array_like, shape (m,)
        k : int or None
            None with a `cutoff` returns every window within it.
        measure : {"dtw", "lcss"}
            The LCSS distance of two windows is ``1 - length / m``.
        epsilon : float
            For LCSS: points match when they differ by at most this much (after normalisation).
        band : int, optional
            ``|i - j| <= band``; None is the full matrix, 0 the Euclidean distance.
        normalize : bool
            Compare z-normal forms; a window without variance normalises to zeros.
        step : int
            Only windows whose position is a multiple of this.
        exclusion : int, optional
            The least distance between the positions of two matches, chosen greedily, nearest
            first. Not where you look at what *followed* the matches: see the notes of `History`.
        cutoff : float, optional
            Only windows at most this far, itself included.
        first, last, until : int, optional
            Only windows that begin in [first, last) and whose points all lie before `until`.
        threads : int
            Threads to divide the windows among, at most 256.
        stop : Stop, optional
            Ends the search when it is set, by any thread.

        Raises
        ------
        StoppedError
            `stop` was set: there is no result, not even a part of one.
        InputError
            `QueryTooLongError`, `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`.
        """
        plan = _plan(
            query, k, measure=measure, epsilon=epsilon, band=band, normalize=normalize,
            step=step, cutoff=cutoff, engine=self._engine, stop=stop,
        )  # fmt: skip
        return _matches(Run(self, first, last, until), plan, exclusion, threads)


def nearest(
    runs: Sequence[Run],
    query: ArrayLike,
    k: int | None,
    *,
    measure: str = "dtw",
    epsilon: float | None = None,
    band: int | None = None,
    step: int = 1,
    normalize: bool = True,
    cutoff: float | None = None,
    engine: str = "auto",
    stop: Stop | None = None,
) -> Found:
    """Return the `k` windows nearest to `query` among all `runs`.

    The answer is the merge of `History.search` over the runs, for less: the runs share the best
    so far. A history shorter than the query has no windows. Options as of `History.search`.

    Returns
    -------
    which, index : ndarray of int64, shape (found,)
        Number of the run, and absolute position in its history.
    distance : ndarray of float64, shape (found,)
        Nearest first; ties by run, then position.

    Raises
    ------
    StoppedError
        `stop` was set: there is no result, not even a part of one.
    InputError
    """
    plan = _plan(
        query, k, measure=measure, epsilon=epsilon, band=band, normalize=normalize,
        step=step, cutoff=cutoff, engine=engine, stop=stop,
    )  # fmt: skip
    return _search([_checked_run(run, f"runs[{i}]") for i, run in enumerate(runs)], plan, 1)


def _checked_dtype(dtype: object) -> np.dtype[Any]:
    """Return the type in which points are kept, in this machine's order of bytes."""
    try:
        name = np.dtype(cast("Any", dtype)).name if dtype is not None else "None"
    except TypeError:
        name = repr(dtype)
    if name not in _DTYPES:
        raise OptionError(f"dtype is {name}: give one of {', '.join(_DTYPES)}")
    return np.dtype(name)


def _checked_run(run: object, name: str) -> Run:
    if not (isinstance(run, Run) and isinstance(cast("object", run.history), History)):
        raise OptionError(f"{name} is {run!r}: give a Run of a History")
    for option in ("first", "last", "until"):
        value = getattr(run, option)
        if value is not None:
            checked_position(value, name=option)
    return run


def _matches(run: Run, plan: _Plan, exclusion: int | None, threads: int) -> Matches:
    """Search one run; with an `exclusion`, for matches that keep their distance."""
    points, held = plan.query.size, len(run.history)
    if points > held:
        raise QueryTooLongError(
            f"the query has {points} points, the history {held}: "
            "append more, or ask with a shorter query"
        )
    runs = [_checked_run(run, "run")]
    workers = checked_count(threads, name="threads", most=THREADS_MAX)

    def ask(count: int) -> Matches:
        _, index, distance = _search(runs, plan._replace(k=count), workers)
        return Matches(index, distance)

    if exclusion is None:
        return ask(plan.k)
    return _spread(ask, plan.k, checked_count(exclusion, name="exclusion", least=0))


def _search(runs: Sequence[Run], plan: _Plan, threads: int) -> Found:
    m = plan.query.size
    fill = plan.backend.window_statistics if plan.normalized else None
    # The snapshots keep the arrays behind the table's addresses alive until the end.
    snapshots = [run.history.storage.snapshot(m, fill, plan.stop) for run in runs]
    table = np.array(
        [_row(run, shot, m, plan.step) for run, shot in zip(runs, snapshots, strict=True)],
        dtype=np.int64,
    ).reshape(-1, COLUMNS)
    shared = np.full(1, np.inf)
    if threads == 1:
        return _scan(table, plan, shared)
    shares = _divided(table, plan.step, threads)
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda part: _scan(part, plan, shared), shares))
    which, index, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((index, which, distance))[: plan.k]
    return which[order], index[order], distance[order]


def _row(run: Run, shot: Snapshot, m: int, step: int) -> tuple[int, ...]:
    """Return the row of the table for `run`: see `plan`."""
    start = run.history.storage.start
    low = start if run.first is None else max(start, run.first)
    high = start + shot.points - m + 1
    if run.last is not None:
        high = min(high, run.last)
    if run.until is not None:
        high = min(high, run.until - m + 1)
    low += -low % step
    count = max(0, -((low - high) // step))
    return (*shot[:4], low - start if count else 0, count, start)


def _scan(table: NDArray[np.int64], plan: _Plan, shared: NDArray[np.float64]) -> Found:
    if not table[:, COUNT].any():
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    found: Found = plan.backend.scan(
        table, plan.step, plan.query, plan.k, plan.band,
        plan.normalized, plan.lcss, plan.epsilon, plan.cutoff, shared, plan.stop,
    )  # fmt: skip
    return found


def _divided(table: NDArray[np.int64], step: int, parts: int) -> list[NDArray[np.int64]]:
    """Divide each row's candidates among `parts` tables of the same rows."""
    divided = []
    for part in range(parts):
        share = table.copy()
        begin = table[:, COUNT] * part // parts
        share[:, COUNT] = table[:, COUNT] * (part + 1) // parts - begin
        share[:, FIRST] += begin * step
        divided.append(share)
    return divided


def _spread(ask: Callable[[int], Matches], k: int, exclusion: int) -> Matches:
    """Choose greedily from as many matches as it takes to find `k` that keep their distance.

    The greedy choice among all windows looks at them nearest first, and whether it takes one
    depends only on those before it. So what it takes of the first n is what it takes when there are
    no others, and once that is `k` windows the rest does not matter.
    """
    asked = min(4 * k, EVERY_MATCH)
    while True:
        matches = ask(asked)
        chosen: list[int] = []
        positions: list[int] = []
        for place, position in enumerate(matches.index.tolist()):
            at = bisect.bisect(positions, position)
            beside = positions[max(0, at - 1) : at + 1]
            if all(abs(position - other) >= exclusion for other in beside):
                positions.insert(at, position)
                chosen.append(place)
                if len(chosen) == k:
                    break
        if len(chosen) == k or len(matches) < asked:
            return Matches(matches.index[chosen], matches.distance[chosen])
        asked *= 4
