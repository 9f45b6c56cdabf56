"""Exact search of a collection of series of one length for the rows nearest to a query.

Distances are computed in float64 from the rows or from their z-normal forms. The result is the same
as if every row were compared in float64. A DTW search with the numba engine runs the cascade of
`native.collection_cascade`: lower bounds, then DTW in float32 lanes, and DTW in float64 for the few
rows that float32 cannot rule out. LCSS searches and the WebAssembly engine compare row by row
(`collection_row_search`).

Memory per point with the numba engine: 4 bytes for float32 rows; 12 bytes for float64 rows and for
all normalised rows, which are kept in float64 and in float32. The lower bounds need the averages of
up to 16 segments of each row. For rows of 128 points, these averages add half a byte per point.
`scan_all` adds 4 bytes per point.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels import collection_row_search
from midstreamer_kernels.band import half_width
from midstreamer_kernels.engines import DEFAULT, backend
from midstreamer_kernels.native import collection_cascade, collection_sketch
from midstreamer_kernels.native.collection_rows import exact_costs, in_lanes
from midstreamer_kernels.native.windows_in_lanes import LANES_32
from midstreamer_kernels.normal_forms import envelope_of, normal_form, normal_rows
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
from midstreamer_kernels.series_checks import Floats, filled, table
from midstreamer_kernels.value_of_rank import value_of_rank

ROUNDING = 2.0**-24  # greatest relative rounding error of one float32 operation
NARROW_MAX = 1e15  # greatest absolute value whose squares can be summed in float32
NARROW_MIN = 1e-10  # rows whose values are all smaller are scaled: float32 squares lose digits


class _Plan(NamedTuple):
    """The checked options of one search of a collection."""

    query: NDArray[np.float64]
    """The query in the form to compare: z-normal if the collection is normalised; shape (n,)."""
    k: int
    """Number of rows to find, at most the number of rows in the collection."""
    band: int
    lcss: bool
    epsilon: float
    cutoff: float
    threads: int


class Collection:
    """Many series of one length that can be searched for the ones nearest to a query.

    Parameters
    ----------
    rows : array_like, shape (n, m)
        n series of m points, copied. float32 is kept as float32, everything else as float64.
    normalize : bool
        Compare the z-normal forms of the rows and of the query. The z-normal form of a constant row
        is all zeros.
    engine : {"auto", "numba", "wasm"}
        The WebAssembly engine compares the rows one by one. For DTW it begins with the rows that
        have the least lower bounds.

    Raises
    ------
    InputError
        `ShapeError` (no rows, no points, several lengths), `NotFiniteError` or `OptionError`.

    Notes
    -----
    Several threads may search one collection at the same time.
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
        """Return the `k` rows nearest to `query`, or fewer if there are fewer.

        Parameters
        ----------
        query : array_like, shape (q,)
            Its length q may differ from that of the rows, m, by at most `band`.
        k : int or None
            Number of rows. None with a `cutoff` returns every row within the cutoff.
        measure : {"dtw", "lcss"}
            The LCSS distance is ``1 - length / min(q, m)``, with the length of the longest common
            subsequence.
        epsilon : float
            For LCSS: two points match when they differ by at most `epsilon` (after normalisation).
        band : int, optional
            Warping band ``|i - j| <= band``. None is the full matrix, 0 the Euclidean distance.
        cutoff : float, optional
            Return only rows whose distance is at most `cutoff`.
        threads : int
            Number of threads that share the rows, at most 256.

        Returns
        -------
        Matches
            `index` holds row numbers. The nearest row comes first; equal distances are ordered by
            row number.

        Raises
        ------
        InputError
            `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`.

        Notes
        -----
        The search is exact: rows and distances equal those of comparing every row in float64. The
        engine, the number of threads and the bounds do not change them. The bounds take O(n) time
        for n rows, and each row that they do not rule out takes O(m * band).
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
        """Return row numbers that include the ``plan.k`` nearest rows, and their distances.

        If `bounded` is False, no lower bound is used.
        """
        if self._index is None or plan.lcss:
            parts = _divide(len(self), 1, plan.threads, lambda *part: self._row_by_row(plan, *part))
            rows, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
            return rows, distances
        chosen = self._index.within_reach(plan, bounded=bounded)
        costs = np.empty(chosen.size)
        exact_costs(self._rows, plan.query, plan.band, chosen, costs)
        return chosen, np.sqrt(costs)

    def _row_by_row(self, plan: _Plan, first: int, last: int) -> collection_row_search.Found:
        if not plan.lcss:
            return collection_row_search.nearest_first(
                self._backend.dtw_squared, self._rows, plan.query, plan.k,
                band=plan.band, cutoff=plan.cutoff, first=first, last=last,
            )  # fmt: skip
        one_by_one = self._backend.lcss_length if self._index is None else None
        return collection_row_search.common_subsequences(
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
    """Return the same matches as `Collection.nearest` by DTW, but compare every row in float32.

    No lower bound is used. This function serves to measure how much time the bounds save. Its first
    call stores a second copy of the rows, in lanes.
    """
    plan = collection._plan(query, k, "dtw", None, band, cutoff, threads)  # noqa: SLF001 - one of the family
    return collection._ranked(plan, collection._search(plan, bounded=False))  # noqa: SLF001


class _Index:
    """Rules out rows of a collection in float32, by lower bounds and by DTW.

    It holds the rows in float32, and the means of their segments (the sketch).
    """

    def __init__(self, rows: Floats) -> None:
        self._middle, self._scale = _frame(rows)
        self._given_max = float(np.abs(rows).max())
        self._rows: NDArray[np.float32] = self._narrow(rows)
        self._rows_max = float(np.abs(self._rows).max())
        self._ends = collection_sketch.segment_ends(rows.shape[1])
        self._sketch = collection_sketch.sketch_of(self._rows, self._ends)
        self._blocks: NDArray[np.float32] | None = None

    def _narrow(self, values: Any) -> NDArray[np.float32]:
        if self._middle == 0.0 and self._scale == 1.0:
            return np.asarray(values, np.float32)
        moved = (np.asarray(values, np.float64) - self._middle) * self._scale
        return moved.astype(np.float32)

    def within_reach(self, plan: _Plan, *, bounded: bool = True) -> NDArray[np.int64]:
        """Return the numbers of the rows that bounds and DTW in float32 do not rule out."""
        count = len(self._rows)
        most = (float(np.abs(plan.query).max()) + abs(self._middle)) * self._scale
        if (plan.k == count and plan.cutoff == math.inf) or not most <= NARROW_MAX:
            return np.arange(count)
        query = self._ready(plan)
        shared = np.full(1, plan.cutoff * self._scale)
        compare, grain = self._by_bounds, collection_sketch.CHUNK
        if not bounded:
            compare, grain = self._by_blocks, LANES_32
            if self._blocks is None:
                self._blocks = in_lanes(self._rows)
        parts = _divide(
            count, grain, plan.threads, lambda *part: compare(query, plan.k, shared, *part)
        )
        return _nearest_of(query, plan.k, float(shared[0]), parts)

    def _by_bounds(
        self,
        query: collection_cascade.Query,
        k: int,
        shared: NDArray[np.float64],
        first: int,
        last: int,
    ) -> collection_cascade.Found:
        found = _room(last - first, k, shared)
        collection_cascade.search_rows(
            self._rows, self._sketch, self._ends, query, found, first, last
        )
        return found

    def _by_blocks(
        self,
        query: collection_cascade.Query,
        k: int,
        shared: NDArray[np.float64],
        first: int,
        last: int,
    ) -> collection_cascade.Found:
        found = _room(last - first, k, shared)
        collection_cascade.search_blocks(self._blocks, query, found, first, last)
        return found

    def _ready(self, plan: _Plan) -> collection_cascade.Query:
        """Return the float32 query, its envelope, and the tolerances for rounding to float32."""
        points = self._narrow(plan.query)
        m = self._rows.shape[1]
        envelope = np.stack(envelope_of(points, plan.band, m))
        means = collection_sketch.segment_means(envelope, self._ends)
        cells = points.size + m - 1
        narrow_max = self._rows_max + float(np.abs(points).max())
        given_max = self._given_max + float(np.abs(plan.query).max()) + abs(self._middle)
        off = 2 * ROUNDING * narrow_max + 2.0**-50 * self._scale * given_max + 2.0**-140
        return collection_cascade.Query(
            points, envelope[0], envelope[1], means[0], means[1], plan.band,
            noise=math.sqrt(cells) * off,
            growth=math.exp((cells + 4) * ROUNDING),
            tiny=cells * 2.0**-124,
        )  # fmt: skip


def _frame(rows: Floats) -> tuple[float, float]:
    """Return the offset to subtract from `rows`, and the power of two to multiply by after that.

    float32 rows stay unchanged (offset 0 and factor 1) unless all their values are below
    `NARROW_MIN` in magnitude, because float32 squares of such values lose digits. Such float32 rows
    and all float64 rows get values between -2 and 2, around 0, where the conversion to float32
    loses least.
    """
    low, high = float(rows.min()), float(rows.max())
    most = max(abs(low), abs(high))
    if rows.dtype == np.float32 and most >= NARROW_MIN:
        return 0.0, 1.0
    middle = low / 2 + high / 2
    exponent = math.frexp(max(high - middle, middle - low))[1]
    return middle, math.ldexp(1.0, max(-1000, min(1000, -exponent)))


def _room(count: int, k: int, shared: NDArray[np.float64]) -> collection_cascade.Found:
    kept = k if k < count else 0
    return collection_cascade.Found(
        np.empty(count, np.int64), np.empty(count, np.float32), np.zeros(1, np.int64),
        np.empty(kept), np.empty(kept, np.int64), np.zeros(1, np.int64), shared,
    )  # fmt: skip


def _nearest_of(
    query: collection_cascade.Query, k: int, within: float, parts: list[collection_cascade.Found]
) -> NDArray[np.int64]:
    """Return the numbers of those rows in `parts` that may be among the k nearest of all parts.

    Each part holds the rows that one thread found in its share of the collection.
    """
    rows = np.concatenate([found.rows[: found.count[0]] for found in parts])
    costs = np.concatenate([found.costs[: found.count[0]] for found in parts]).astype(np.float64)
    if k < costs.size:
        worst = value_of_rank(costs, k - 1)
        within = min(within, collection_cascade.distance_within(query, worst))
    chosen: NDArray[np.int64] = rows[costs <= collection_cascade.cost_within(query, within)]
    return chosen


def _divide(count: int, grain: int, threads: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Divide ``range(count)`` among `threads` threads; return the results of ``work(first, last)``.

    The borders between two parts are multiples of `grain`.
    """
    grains = -(-count // grain)
    threads = min(threads, grains)
    borders = [min(count, grains * part // threads * grain) for part in range(threads + 1)]
    parts = list(itertools.pairwise(borders))
    if threads == 1:
        return [work(*parts[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda part: work(*part), parts))
