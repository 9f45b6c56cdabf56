"""Exact search for the windows of one or many histories that are nearest to a query.

A window is m consecutive points of a history, where m is the length of the query. The position of a
window is the absolute position of its first point; the first point of a history has the position
`History.start`. Distances are computed in float64 from the stored points, and each distance is a
pure function of the window and the query. So the results have the same bits for every engine, with
and without pruning, and for a history divided into overlapping parts.

`nearest` searches many histories with one shared best-so-far, in one call without the GIL.
`History.search` searches one history.

There is deliberately no index. Only the statistics of windows are stored; everything else is
computed in each search.
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
from midstreamer_kernels.search_inputs import COLUMNS, COUNT, FIRST, SearchOptions
from midstreamer_kernels.series_checks import Floats, filled, floats
from midstreamer_kernels.stop import NEVER, Stop
from midstreamer_kernels.stored_history import Snapshot, Storage

EVERY_MATCH = POSITION_MAX  # the number of matches that the engines are asked for when k is None
_DTYPES = ("float32", "float64")

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Matches:
    """The matches of a search, nearest first; equal distances are ordered by `index`."""

    index: NDArray[np.int64]
    """Where each match is, shape (found,).

    From a history: the absolute position of the window's first point. From a `Collection`: the
    number of the row.
    """
    distance: NDArray[np.float64]
    """Distance of each match to the query, shape (found,)."""

    def __len__(self) -> int:
        return int(self.index.size)


@dataclass(frozen=True, slots=True)
class Run:
    """A history and the part of it that `nearest` searches; positions are absolute."""

    history: History
    first: int | None = None
    """Least position at which a searched window begins; None means the history's start."""
    last: int | None = None
    """Position before which every searched window begins; None means the history's end."""
    until: int | None = None
    """Position before which all points of searched windows lie; None means the history's end."""


class _Plan(NamedTuple):
    """The checked arguments of one search of histories."""

    query: NDArray[np.float64]
    """The query, not z-normalised, shape (m,)."""
    options: SearchOptions
    backend: Backend
    """The functions of the engine."""
    stop: Stop
    """The flag that cancels the search."""


def _checked(
    query: ArrayLike,
    k: int | None,
    *,
    measure: str,
    epsilon: float | None,
    band: int | None,
    normalize: bool,
    step: int,
    cutoff: float | None,
) -> tuple[NDArray[np.float64], SearchOptions]:
    """Return the points of the query and the options of its search, checked."""
    points = cast("NDArray[np.float64]", filled(query, name="query", dtype=np.float64))
    lcss = checked_measure(measure) == "lcss"
    options = SearchOptions(
        k=checked_matches(k, cutoff, most=EVERY_MATCH, of="windows"),
        step=checked_count(step, name="step", most=POSITION_MAX),
        band=half_width(band, points.size, points.size),
        normalized=checked_flag(normalize, name="normalize"),
        lcss=lcss,
        epsilon=checked_epsilon(epsilon) if lcss else 0.0,
        cutoff=checked_distance(cutoff, name="cutoff"),
    )
    return points, options


def _plan(
    query: NDArray[np.float64], options: SearchOptions, engine: str, stop: Stop | None
) -> _Plan:
    return _Plan(query, options, backend(engine), NEVER if stop is None else stop)


class History:
    """A growing series whose windows can be searched.

    Parameters
    ----------
    values : array_like, shape (n,)
        The points with which the history begins.
    start : int
        Absolute position of the first point, at least 0.
    dtype : {"float32", "float64"}
        Type of the stored points. Distances are computed in float64 from the stored points.
    engine : {"auto", "numba", "wasm"}
        The engine of the searches.

    Notes
    -----
    Memory per point: 4 or 8 bytes for the point, and 16 bytes of window statistics for each of the
    last 8 window lengths searched. A running search takes 4 bytes more per point.
    The first search with a window length computes the statistics of all windows. Later searches
    compute only those of new windows, one for each new point.
    Several threads may append and search at the same time.

    A search is exact: it returns the same bits as comparing every window in float64. Every window
    gets a coarse lower bound of about thirty operations. Windows that it does not rule out get a
    fine bound, O(m). The few that neither bound rules out are compared, O(m * band). With
    `exclusion` the search first asks for ``4 * k`` matches. It is repeated, each time for four
    times as many, until `k` of them are far enough apart.

    Do not use `exclusion` when you look at what *followed* the matches. With `exclusion`, a window
    is a match only if the windows that begin shortly after it are not nearer to the query. These
    later windows contain points that followed the match, so the choice of the match depends on its
    future. Whatever is computed from outcomes is then biased: on a random walk, a probability of
    one half comes out as one third or two thirds. Use a fixed grid (`step`) instead.
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
        backend(engine)  # raises an error for an unknown engine now, not at the first search
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
        """Absolute position after the last point: `start` plus the number of points."""
        return self.storage.start + self.storage.count

    def __len__(self) -> int:
        return self.storage.count

    def append(self, values: ArrayLike) -> None:
        """Append `values`, shape (n,). If one value is not finite, none is appended.

        Raises `NotFiniteError` or `ShapeError`.
        """
        self.storage.append(floats(values, name="values", dtype=self.storage.dtype))

    def window(self, index: int, length: int) -> Floats:
        """Return a copy of the `length` stored points from absolute position `index`.

        Raises `OptionError` if the history does not have all of these points.
        """
        index = checked_position(index, name="index")
        length = checked_position(length, name="length")
        begin = index - self.start
        if begin < 0 or length < 1 or index + length > self.end:
            raise OptionError(
                f"points [{index}, {index + length}) are not in [{self.start}, {self.end}), the "
                "positions of this history"
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
        """Return the `k` windows nearest to `query`, or fewer if there are fewer.

        Parameters
        ----------
        query : array_like, shape (m,)
        k : int or None
            Number of windows. None with a `cutoff` returns every window within the cutoff.
        measure : {"dtw", "lcss"}
            The LCSS distance is ``1 - length / m``, with the longest common subsequence's length.
        epsilon : float
            For LCSS: two points match when they differ by at most `epsilon` (after normalisation).
        band : int, optional
            Warping band ``|i - j| <= band``. None is the full matrix, 0 the Euclidean distance.
        normalize : bool
            Compare z-normal forms. The z-normal form of a constant window is all zeros.
        step : int
            Search only windows whose position is a multiple of `step`.
        exclusion : int, optional
            Least difference between the positions of two matches; nearer windows are chosen first.
            Not for studies of what *followed* the matches: see the notes of `History`.
        cutoff : float, optional
            Return only windows whose distance is at most `cutoff`.
        first, last, until : int, optional
            Search only windows that begin in [first, last) and whose points lie before `until`.
        threads : int
            Number of threads that share the windows, at most 256.
        stop : Stop, optional
            A flag with which any thread can cancel this search.

        Raises
        ------
        StoppedError
            `stop` was set; no partial result is returned.
        InputError
            `QueryTooLongError`, `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`.
        """
        points, options = _checked(
            query, k, measure=measure, epsilon=epsilon, band=band, normalize=normalize,
            step=step, cutoff=cutoff,
        )  # fmt: skip
        plan = _plan(points, options, self._engine, stop)
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

    The result equals merging `History.search` of each run, in less time because the runs share the
    best-so-far distance. A history shorter than the query has no windows. The options are those of
    `History.search`.

    Returns
    -------
    which, index : ndarray of int64, shape (found,)
        For each match the index of its run in `runs`, and its absolute position in the history.
    distance : ndarray of float64, shape (found,)
        Ascending; equal distances are ordered by run, then by position.

    Raises
    ------
    StoppedError
        `stop` was set; no partial result is returned.
    InputError
        `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`.
    """
    points, options = _checked(
        query, k, measure=measure, epsilon=epsilon, band=band, normalize=normalize,
        step=step, cutoff=cutoff,
    )  # fmt: skip
    plan = _plan(points, options, engine, stop)
    return _search([_checked_run(run, f"runs[{i}]") for i, run in enumerate(runs)], plan, 1)


def _checked_dtype(dtype: object) -> np.dtype[Any]:
    """Return `dtype` as a numpy type in native byte order; raise `OptionError` if not a float."""
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
    """Search one run; with `exclusion`, return only matches at least so many points apart."""
    points, held = plan.query.size, len(run.history)
    if points > held:
        raise QueryTooLongError(
            f"the query has {points} points, the history {held}: "
            "append more points, or search with a shorter query"
        )
    runs = [_checked_run(run, "run")]
    workers = checked_count(threads, name="threads", most=THREADS_MAX)

    def ask(options: SearchOptions) -> Matches:
        _, index, distance = _search(runs, plan._replace(options=options), workers)
        return Matches(index, distance)

    options = plan.options
    if exclusion is None:
        return ask(options)
    apart = checked_count(exclusion, name="exclusion", least=0)
    return _spread(lambda count: ask(options._replace(k=count)), options.k, apart)


def _search(runs: Sequence[Run], plan: _Plan, threads: int) -> Found:
    m, step = plan.query.size, plan.options.step
    fill = plan.backend.window_statistics if plan.options.normalized else None
    # `table` gets the addresses of arrays. The snapshots hold references to these arrays, so that
    # the arrays are not freed before `_search` returns.
    snapshots = [run.history.storage.snapshot(m, fill, plan.stop) for run in runs]
    table = np.array(
        [_row(run, shot, m, step) for run, shot in zip(runs, snapshots, strict=True)],
        dtype=np.int64,
    ).reshape(-1, COLUMNS)
    shared = np.full(1, np.inf)
    if threads == 1:
        return _scan(table, plan, shared)
    shares = _divided(table, step, threads)
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda part: _scan(part, plan, shared), shares))
    which, index, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((index, which, distance))[: plan.options.k]
    return which[order], index[order], distance[order]


def _row(run: Run, shot: Snapshot, m: int, step: int) -> tuple[int, ...]:
    """Return the row for `run` in the table of histories that `search_inputs` describes."""
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
    found: Found = plan.backend.scan(table, plan.query, plan.options, shared, plan.stop)
    return found


def _divided(table: NDArray[np.int64], step: int, parts: int) -> list[NDArray[np.int64]]:
    """Return `parts` copies of the table of histories.

    Each copy has all rows. The candidates of each row are divided evenly among the copies.
    """
    divided = []
    for part in range(parts):
        share = table.copy()
        begin = table[:, COUNT] * part // parts
        share[:, COUNT] = table[:, COUNT] * (part + 1) // parts - begin
        share[:, FIRST] += begin * step
        divided.append(share)
    return divided


def _spread(ask: Callable[[int], Matches], k: int, exclusion: int) -> Matches:
    """Return the first `k` matches, nearest first, whose positions differ by `exclusion` or more.

    The choice is greedy: a match is taken unless it is too close to a nearer match already taken.
    So farther matches never change the choice among nearer matches. The search therefore asks for
    the nearest ``4 * k`` matches first. If fewer than `k` of these can be taken, the search asks
    for four times as many matches, and so on.
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
