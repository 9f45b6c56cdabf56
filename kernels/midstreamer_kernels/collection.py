"""A collection of series of one length, searched for the rows nearest to a query, exactly.

Distances are computed in float64 from the rows as given (or their normal forms), and what comes out
is what comparing every row in float64 gives. A dynamic time warping search with the numba engine
goes through `native.cascade`: sketch, envelopes, float32 in lanes, and float64 for the few rows
that float32 put within reach. Everything else compares row by row (`rowwise`).

Memory per point, for rows of 128: float32 rows 4 bytes as they are and 12 when normalised; float64
rows 12; each half a byte more for the sketch. `scan_all` adds 4 when it is used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels import rowwise
from midstreamer_kernels.band import half_width
from midstreamer_kernels.engines import DEFAULT, backend
from midstreamer_kernels.forms import envelope_of, normal_form, normal_rows
from midstreamer_kernels.native import cascade, sketch
from midstreamer_kernels.native.lanes import LANES_32
from midstreamer_kernels.native.rows import exact_costs, in_lanes
from midstreamer_kernels.options import (
    THREADS_MAX,
    checked_count,
    checked_distance,
    checked_epsilon,
    checked_flag,
    checked_matches,
    checked_measure,
)
from midstreamer_kernels.search import Matches
from midstreamer_kernels.series import Floats, filled, table

ROUNDING = 2.0**-24  # of one float32 operation
NARROW_MAX = 1e15  # a magnitude whose squares float32 still sums
NARROW_MIN = 1e-10  # a magnitude whose squares float32 keeps the digits of


class _Plan(NamedTuple):
    """Checked options of a search."""

    query: NDArray[np.float64]
    k: int
    """At most the number of rows."""
    band: int
    lcss: bool
    epsilon: float
    cutoff: float
    threads: int


class Collection:
    """Series of one length, to be searched for the nearest to a query.

    Parameters
    ----------
    rows : array_like, shape (n, m)
        Copied. float32 is kept as float32, everything else as float64.
    normalize : bool
        Compare z-normal forms, of the rows and of the query; a row without variance normalises to
        zeros.
    engine : {"auto", "numba", "wasm"}
        The WebAssembly engine compares row by row, by ascending bounds.

    Raises
    ------
    InputError
        `ShapeError` (no rows, no points, several lengths), `NotFiniteError` or `OptionError`.

    Notes
    -----
    Searching is safe from several threads.
    """

    __slots__ = ("_backend", "_index", "_normalize", "_rows")

    def __init__(
        self,
        rows: ArrayLike | Sequence[ArrayLike],
        *,
        normalize: bool = False,
        engine: str = "auto",
    ) -> None:
        self._backend = backend(engine)
        given = table(rows, name="rows")
        self._normalize = checked_flag(normalize, name="normalize")
        self._rows: Floats = normal_rows(given) if self._normalize else given.copy()
        indexed = self._backend is backend(DEFAULT)
        self._index = _Index(self._rows) if indexed else None

    def __len__(self) -> int:
        return len(self._rows)

    def nearest(
        self,
        query: ArrayLike,
        k: int | None = 1,
        *,
        measure: str = "dtw",
        epsilon: float | None = None,
        band: int | None = None,
        cutoff: float | None = None,
        threads: int = 1,
    ) -> Matches:
        """Return the `k` rows nearest to `query`; fewer when there are fewer.

        Parameters
        ----------
        query : array_like, shape (n,)
            May be longer or shorter than the rows, when the band allows it.
        k : int or None
            None with a `cutoff` returns every row within it.
        measure : {"dtw", "lcss"}
            The LCSS distance is ``1 - length / m``, m the length of the shorter series.
        epsilon : float
            For LCSS: points match when they differ by at most this much (after normalisation).
        band : int, optional
            ``|i - j| <= band``; None is the full matrix, 0 the Euclidean distance.
        cutoff : float, optional
            Only rows at most this far, itself included.
        threads : int
            Threads to divide the rows among, at most 256.

        Returns
        -------
        Matches
            `index` is the number of the row; nearest first, ties by lower index.

        Raises
        ------
        InputError
            `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`.

        Notes
        -----
        Exact: indices and distances are those of comparing every row in float64, whatever the
        engine, the threads and the bounds. O(n) for the bounds of n rows, and O(m * band) for each
        row that they do not rule out.
        """
        plan = self._plan(query, k, measure, epsilon, band, cutoff, threads)
        return self._ranked(plan, self._search(plan))

    def _plan(
        self,
        query: ArrayLike,
        k: int | None,
        measure: str,
        epsilon: float | None,
        band: int | None,
        cutoff: float | None,
        threads: int,
    ) -> _Plan:
        points: Any = filled(query, name="query", dtype=np.float64)
        lcss = checked_measure(measure) == "lcss"
        return _Plan(
            normal_form(points) if self._normalize else points,
            checked_matches(k, cutoff, most=len(self), of="rows"),
            half_width(band, points.size, self._rows.shape[1]),
            lcss,
            checked_epsilon(epsilon) if lcss else 0.0,
            checked_distance(cutoff, name="cutoff"),
            checked_count(threads, name="threads", most=THREADS_MAX),
        )

    def _search(
        self, plan: _Plan, *, bounded: bool = True
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return rows that have all of the nearest among them, and their distances."""
        if self._index is None or plan.lcss:
            parts = _divide(len(self), 1, plan.threads, lambda *part: self._row_by_row(plan, *part))
            rows, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
            return rows, distances
        chosen = self._index.within_reach(plan, bounded=bounded)
        costs = np.empty(chosen.size)
        exact_costs(self._rows, plan.query, plan.band, chosen, costs)
        return chosen, np.sqrt(costs)

    def _row_by_row(self, plan: _Plan, first: int, last: int) -> rowwise.Found:
        if not plan.lcss:
            return rowwise.nearest_first(
                self._backend.dtw_squared, self._rows, plan.query, plan.k,
                band=plan.band, cutoff=plan.cutoff, first=first, last=last,
            )  # fmt: skip
        one_by_one = self._backend.lcss_length if self._index is None else None
        return rowwise.common_subsequences(
            self._rows, plan.query, epsilon=plan.epsilon, band=plan.band,
            first=first, last=last, one_by_one=one_by_one,
        )  # fmt: skip

    @staticmethod
    def _ranked(plan: _Plan, found: tuple[NDArray[np.int64], NDArray[np.float64]]) -> Matches:
        rows, distances = found
        within = distances <= plan.cutoff
        rows, distances = rows[within], distances[within]
        order = np.lexsort((rows, distances))[: plan.k]
        return Matches(rows[order], distances[order])


def scan_all(
    collection: Collection,
    query: ArrayLike,
    k: int | None = 1,
    *,
    band: int | None = None,
    cutoff: float | None = None,
    threads: int = 1,
) -> Matches:
    """Return what `Collection.nearest` does by DTW, from comparing every row and without any bound.

    For measuring what the bounds are worth. The first call keeps the rows in lanes, once more.
    """
    plan = collection._plan(query, k, "dtw", None, band, cutoff, threads)  # noqa: SLF001 - one of the family
    return collection._ranked(plan, collection._search(plan, bounded=False))  # noqa: SLF001


class _Index:
    """The rows in float32 with their sketch, and the search in them."""

    def __init__(self, rows: Floats) -> None:
        self._middle, self._scale = _frame(rows)
        self._given_max = float(np.abs(rows).max())
        self._rows: NDArray[np.float32] = self._narrow(rows)
        self._rows_max = float(np.abs(self._rows).max())
        self._ends = sketch.segment_ends(rows.shape[1])
        self._sketch = sketch.sketch_of(self._rows, self._ends)
        self._blocks: NDArray[np.float32] | None = None

    def _narrow(self, values: Any) -> NDArray[np.float32]:
        if self._middle == 0.0 and self._scale == 1.0:
            return np.asarray(values, np.float32)
        moved = (np.asarray(values, np.float64) - self._middle) * self._scale
        return moved.astype(np.float32)

    def within_reach(self, plan: _Plan, *, bounded: bool = True) -> NDArray[np.int64]:
        """Return the rows that float32 cannot tell to be farther than the k nearest."""
        count = len(self._rows)
        most = (float(np.abs(plan.query).max()) + abs(self._middle)) * self._scale
        if (plan.k == count and plan.cutoff == math.inf) or not most <= NARROW_MAX:
            return np.arange(count)
        query = self._ready(plan)
        shared = np.full(1, plan.cutoff * self._scale)
        compare, grain = self._by_bounds, sketch.CHUNK
        if not bounded:
            compare, grain = self._by_blocks, LANES_32
            if self._blocks is None:
                self._blocks = in_lanes(self._rows)
        parts = _divide(
            count, grain, plan.threads, lambda *part: compare(query, plan.k, shared, *part)
        )
        return _nearest_of(query, plan.k, float(shared[0]), parts)

    def _by_bounds(
        self, query: cascade.Query, k: int, shared: NDArray[np.float64], first: int, last: int
    ) -> cascade.Found:
        found = _room(last - first, k, shared)
        cascade.search_rows(self._rows, self._sketch, self._ends, query, found, first, last)
        return found

    def _by_blocks(
        self, query: cascade.Query, k: int, shared: NDArray[np.float64], first: int, last: int
    ) -> cascade.Found:
        found = _room(last - first, k, shared)
        cascade.search_blocks(self._blocks, query, found, first, last)
        return found

    def _ready(self, plan: _Plan) -> cascade.Query:
        """Return the query as the search wants it; `cascade` tells of the rounding."""
        points = self._narrow(plan.query)
        m = self._rows.shape[1]
        envelope = np.stack(envelope_of(points, plan.band, m))
        means = sketch.segment_means(envelope, self._ends)
        cells = points.size + m - 1
        narrow_max = self._rows_max + float(np.abs(points).max())
        given_max = self._given_max + float(np.abs(plan.query).max()) + abs(self._middle)
        off = 2 * ROUNDING * narrow_max + 2.0**-50 * self._scale * given_max + 2.0**-140
        return cascade.Query(
            points, envelope[0], envelope[1], means[0], means[1], plan.band,
            noise=math.sqrt(cells) * off,
            growth=math.exp((cells + 4) * ROUNDING),
            tiny=cells * 2.0**-124,
        )  # fmt: skip


def _frame(rows: Floats) -> tuple[float, float]:
    """Return the number to subtract from `rows` and then the power of two to multiply by.

    float32 rows stay what they are when their squares fit; the others are laid around zero, at
    most 2 away, where float32 keeps most of them.
    """
    low, high = float(rows.min()), float(rows.max())
    most = max(abs(low), abs(high))
    if rows.dtype == np.float32 and most >= NARROW_MIN:
        return 0.0, 1.0
    middle = low / 2 + high / 2
    exponent = math.frexp(max(high - middle, middle - low))[1]
    return middle, math.ldexp(1.0, max(-1000, min(1000, -exponent)))


def _room(count: int, k: int, shared: NDArray[np.float64]) -> cascade.Found:
    kept = k if k < count else 0
    return cascade.Found(
        np.empty(count, np.int64), np.empty(count, np.float32), np.zeros(1, np.int64),
        np.empty(kept), np.empty(kept, np.int64), np.zeros(1, np.int64), shared,
    )  # fmt: skip


def _nearest_of(
    query: cascade.Query, k: int, within: float, parts: list[cascade.Found]
) -> NDArray[np.int64]:
    """Return the rows among all that were found which may be one of the k nearest."""
    rows = np.concatenate([found.rows[: found.count[0]] for found in parts])
    costs = np.concatenate([found.costs[: found.count[0]] for found in parts]).astype(np.float64)
    if k < costs.size:
        worst = float(np.partition(costs, k - 1)[k - 1])
        within = min(within, cascade.distance_within(query, worst))
    chosen: NDArray[np.int64] = rows[costs <= cascade.cost_within(query, within)]
    return chosen


def _divide(count: int, grain: int, threads: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Call `work` for parts [first, last) of `count`, whole grains each, in `threads` threads."""
    grains = -(-count // grain)
    threads = min(threads, grains)
    borders = [min(count, grains * part // threads * grain) for part in range(threads + 1)]
    parts = list(itertools.pairwise(borders))
    if threads == 1:
        return [work(*parts[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda part: work(*part), parts))
