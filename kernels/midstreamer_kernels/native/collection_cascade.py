"""Cascade that finds the rows of a collection nearest to a query: bounds, then DTW in float32.

Each step examines only the rows that the step before could not rule out:

1. *Sketch*: a lower bound of every row from its segment means (`collection_sketch`).
2. *Seeds*: the rows with the least bounds are compared first, so that the k-th best distance is
   nearly final early.
3. *Envelopes*: the bound LB_Keogh (Keogh and Ratanamahatana 2005), which is the squared excess of a
   row over the query's envelope. For rows that it does not rule out, a second bound follows: the
   squared excess of the query over the row's envelope.
4. *Lanes*: DTW in float32 lanes (`windows_in_lanes`).
5. *Float64*: the caller compares the remaining rows in float64; only those distances are returned.

Rounding to float32 must not rule out a row that is among the nearest. So limits are raised by the
greatest possible rounding error. That error is estimated as follows. Let x and y be the exact
points, shifted and scaled by the same numbers to fit float32, and x', y' their float32 values. For
n and m points a path has at most p = n + m - 1 cells.  Let u be 2**-24.

- Along any path each difference changes by at most e = max|x - x'| + max|y - y'|. By the triangle
  inequality the root of a path's cost, and of the least cost, changes by at most sqrt(p) e.
- A difference, a square and at most p - 1 sums multiply a term by at most p + 2 factors between
  1 - u and 1 + u. Minima do not round, and all terms are positive. So the root of the float32 cost
  is wrong by at most the factor ``(1 + u)**((p + 2) / 2)``, whatever the path. A square too small
  for float32 adds an error of less than 2**-125.

These estimates give two bounds. Here *narrow* is a distance in float32, and *exact* is the same
distance without rounding. The factor g = exp((p + 4) u) is greater than the factor above, so that
it covers the rounding of float64 too. The errors of small squares are left out here: `Query.tiny`
is added to each cost instead.

    narrow <= (exact + sqrt(p) e) g      a row with a greater float32 distance is ruled out
    exact  <= narrow g + sqrt(p) e       bounds the exact distance of the k-th best row

The first line holds for lower bounds too. A bound is a sum like the cost of a path, but it has
fewer terms, and each is at most as great as the term of the path that it stands for. Segment means
are rounded to float32 like the points. To cover the rounding of the means too, twice the value of e
is used.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from midstreamer_kernels.emit import backward_bound as emit_envelope
from midstreamer_kernels.emit.bound_selection import emit_choose
from midstreamer_kernels.emit.transposition import emit_fetch, emit_gather
from midstreamer_kernels.emit.vector_operations import FLOAT32, Shape
from midstreamer_kernels.native import windows_in_lanes
from midstreamer_kernels.native.collection_sketch import near_threshold, sketch_bounds
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.heap import offer
from midstreamer_kernels.native.jit_decorators import jit
from midstreamer_kernels.native.windows_in_lanes import (
    LANES_32,
    PADDING,
    block_cells,
    dtw_block,
    empty_block,
)

# The rows with the least bounds, called seeds, are compared first: two for each wanted match, and
# this number in addition.
SEEDS = 2 * LANES_32
BOTH_WAYS_MAX = 32  # widest band for which the bound from a row's envelope saves time
AHEAD = 6  # rows prefetched ahead of the one in use: memory latency is longer than the work per row

_gather = emitted(emit_gather, windows_in_lanes.shape_for(FLOAT32))
_register = Shape(FLOAT32, LANES_32 // 2, 1)
_envelope_excess = emitted(emit_envelope.emit_envelope_excess, _register)
_choose = emitted(emit_choose, _register)
_fetch = emitted(emit_fetch, windows_in_lanes.shape_for(FLOAT32))


class Query(NamedTuple):
    """A query in float32, shifted and scaled like the rows, with its envelope and tolerances."""

    points: Any
    """The points of the query, shape (n,), float32."""
    upper: Any
    """The upper envelope, shape (m,), float32."""
    lower: Any
    """The lower envelope, shape (m,), float32."""
    upper_means: Any
    """Segment means of the upper envelope, shape (segments,), float32."""
    lower_means: Any
    """Segment means of the lower envelope, shape (segments,), float32."""
    band: int
    """Half-width of the warping band in points."""
    noise: float
    """Greatest error of a distance (the root of a cost) from rounding the points to float32."""
    growth: float
    """Greatest factor by which rounding of sums changes a distance (the root of a cost)."""
    tiny: float
    """Greatest error in a cost, caused by squares that are too small for float32."""


class Found(NamedTuple):
    """The rows that DTW in float32 does not rule out, and a heap of the k nearest of these rows.

    The rows are in any order. They are compared again in float64.
    """

    rows: Any
    """Numbers of the rows found, int64; the first ``count[0]`` elements are in use."""
    costs: Any
    """Squared DTW distances of the rows in `rows`, float32."""
    count: Any
    """Number of rows found, shape (1,)."""
    best: Any
    """A heap of the k least costs; shape (0,) if every row within the cutoff is wanted."""
    best_rows: Any
    """Row numbers of the costs in `best`: element i is the row of cost i, int64."""
    best_count: Any
    """Number of costs in `best`, shape (1,)."""
    shared: Any
    """An upper bound of the k-th nearest row's distance, shape (1,), shared by all threads.

    The bound begins as the cutoff. Threads lower it without a lock, so a thread may overwrite a
    lower value of another thread. That costs time but no exactness, because every value is a valid
    bound.
    """


class Group(NamedTuple):
    """Up to `LANES_32` rows that will be compared at once, with the arrays of the comparison."""

    starts: Any
    """Index of the element at which each row of the group begins, shape (LANES_32,), int64."""
    waiting: Any
    """Numbers of the rows in the group, shape (LANES_32,), int64."""
    count: Any
    """Number of rows in the group, shape (1,)."""
    block: Any
    """The points of the group's rows, one row per lane; see `native.windows_in_lanes.dtw_block`."""
    cells: Any
    """Scratch memory of the comparison."""
    costs: Any
    """Receives the squared DTW distance of each row in the group, shape (LANES_32,), float32."""


@jit
def cost_within(query: Any, distance: float) -> float:
    """Return the greatest float32 cost that a row within `distance` can have."""
    root = (distance + query.noise) * query.growth
    return float(root * root + query.tiny)


@jit
def distance_within(query: Any, cost: float) -> float:
    """Return the greatest exact distance that a row with the float32 `cost` can have."""
    return float(np.sqrt(cost + query.tiny) * query.growth + query.noise)


@jit
def _group(query: Any, m: int) -> Any:
    return Group(
        np.zeros(LANES_32, np.int64), np.zeros(LANES_32, np.int64), np.zeros(1, np.int64),
        empty_block(query.points, m), block_cells(query.points, query.band),
        np.empty(LANES_32, np.float32),
    )  # fmt: skip


@jit
def _take(query: Any, found: Any, group: Any) -> None:
    """Copy rows from a compared `group` to `found`: those whose cost is within the limit."""
    limit = cost_within(query, found.shared[0])
    for lane in range(group.count[0]):
        cost = np.float64(group.costs[lane])
        if not cost <= limit:
            continue
        place = found.count[0]
        found.rows[place], found.costs[place] = group.waiting[lane], group.costs[lane]
        found.count[0] = place + 1
        if found.best.size == 0:
            continue
        size = offer(found.best, found.best_rows, found.best_count[0], cost, group.waiting[lane])
        found.best_count[0] = size
        if size == found.best.size:
            reached = distance_within(query, found.best[0])
            if reached < found.shared[0]:
                found.shared[0] = reached
                limit = cost_within(query, reached)


@jit
def _compare(query: Any, rows: Any, group: Any, found: Any) -> None:
    """Compare the query with the rows in `group` by DTW in float32; empty the group afterwards."""
    m, count = rows.shape[1], group.count[0]
    for lane in range(LANES_32):
        # If the group has fewer rows than lanes, the spare lanes get a copy of its first row.
        group.starts[lane] = group.waiting[lane if lane < count else 0] * m
    inside = group.block.ctypes.data + PADDING * LANES_32 * group.block.itemsize
    _gather(rows.ctypes.data, group.starts.ctypes.data, m, inside)
    limit = cost_within(query, found.shared[0])
    dtw_block(query.points, group.block, query.band, limit, group.cells, group.costs)
    _take(query, found, group)
    group.count[0] = 0


@jit
def _compare_all(
    rows: Any, query: Any, group: Any, found: Any, first: int, bounds: Any, chosen: Any
) -> None:
    """Compare the chosen rows in groups of one row per lane.

    The comparisons lower the limit. Rows whose bound exceeds the lowered limit are skipped.
    """
    for number in range(chosen.size):
        place = chosen[number]
        if bounds[place] <= cost_within(query, found.shared[0]):
            group.waiting[group.count[0]] = first + place
            group.count[0] += 1
        # Full groups and the last group are compared by the same line, because numba would compile
        # `_compare` a second time for a second line that calls it.
        last = number == chosen.size - 1 and group.count[0] > 0
        if last or group.count[0] == LANES_32:
            _compare(query, rows, group, found)


@jit(reorder_sums=True)
def _excess(points: Any, upper: Any, lower: Any) -> Any:
    total = np.float32(0.0)
    for t in range(points.size):
        over = points[t] - upper[t]
        under = lower[t] - points[t]
        excess = over if over > under else under
        excess = excess if excess > np.float32(0.0) else np.float32(0.0)
        total += excess * excess
    return total


@jit
def envelope_room(n: int, m: int, band: int) -> Any:
    """Return the scratch memory of `bound_of_query` for n query points and rows of m points."""
    return np.zeros((emit_envelope.ROWS, max(n, m) + 2 * band + 3 * LANES_32), np.float32)


@jit
def bound_of_query(points: Any, row: Any, band: int, room: Any) -> Any:
    """Return the sum of the squared excesses of the query's `points` over the envelope of `row`."""
    passes, span = 0, 1
    while span < 2 * band + 1:
        passes += 1
        span *= emit_envelope.SPANS
    return _envelope_excess(
        points.ctypes.data, points.size, row.ctypes.data, row.size, band, passes,
        room.ctypes.data, room.shape[1],
    )  # fmt: skip


@jit
def search_rows(
    rows: Any, sketch: Any, ends: Any, query: Any, found: Any, first: int, last: int
) -> None:
    """Find the rows of [first, last) that may be among the nearest, by bounds and DTW in float32.

    Parameters
    ----------
    rows : ndarray, shape (n, m), float32
    sketch : ndarray, from `native.collection_sketch.sketch_of`, of all rows
    ends : ndarray, from `native.collection_sketch.segment_ends`
    query : Query
    found : Found
        Receives the rows; its arrays have room for all rows of [first, last).
    first : int
        A multiple of `native.collection_sketch.CHUNK`.
    """
    whole = -(-(last - first) // LANES_32) * LANES_32
    # The bounds are padded to whole vectors. The padding stays NaN, so it is never chosen.
    room = np.full(whole, np.nan, np.float32)
    bounds = room[: last - first]
    sketch_bounds(sketch, ends, query.upper_means, query.lower_means, first, bounds)
    group = _group(query, rows.shape[1])
    chosen = np.empty(bounds.size, np.int64)
    seeds = SEEDS + 2 * found.best.size
    for seeding in (True, False):
        limit = np.float32(cost_within(query, found.shared[0]))
        if seeding:
            limit = min(limit, near_threshold(bounds, seeds))
        count = _choose(bounds.ctypes.data, whole, limit, chosen.ctypes.data)
        if seeding:
            count = min(count, seeds)
        else:
            count = _choose_by_envelope(rows, query, found, first, chosen, count, bounds)
        _compare_all(rows, query, group, found, first, bounds, chosen[:count])
        for number in range(count):
            bounds[chosen[number]] = np.nan  # do not choose this row again


@jit
def _choose_by_envelope(
    rows: Any, query: Any, found: Any, first: int, chosen: Any, count: int, bounds: Any
) -> int:
    """Keep the chosen rows that the envelope bounds do not rule out; return how many are kept.

    The new bounds are written to `bounds`.
    """
    limit = np.float32(cost_within(query, found.shared[0]))
    room = envelope_room(query.points.size, rows.shape[1], query.band)
    row_bytes = rows.itemsize * rows.shape[1]
    kept = 0
    for number in range(count):
        coming = first + chosen[min(number + AHEAD, count - 1)]
        _fetch(rows.ctypes.data + coming * row_bytes, rows.shape[1])
        place = chosen[number]
        row = rows[first + place]
        bound = _excess(row, query.upper, query.lower)
        if bound <= limit and query.band <= BOTH_WAYS_MAX:
            bound = max(bound, bound_of_query(query.points, row, query.band, room))
        bounds[place] = bound
        chosen[kept] = place
        kept += bound <= limit
    return kept


@jit
def search_blocks(blocks: Any, query: Any, found: Any, first: int, last: int) -> None:
    """Find the rows of [first, last) that DTW in float32 does not rule out; use no lower bounds.

    `blocks` holds the rows in lanes, shape (blocks, elements), from
    `native.collection_rows.in_lanes`; `first` is a multiple of `LANES_32`.
    """
    group = _group(query, 1)
    for row in range(first, last, LANES_32):
        group.count[0] = min(LANES_32, last - row)
        for lane in range(LANES_32):
            group.waiting[lane] = row + lane
        limit = cost_within(query, found.shared[0])
        block = blocks[row // LANES_32]
        dtw_block(query.points, block, query.band, limit, group.cells, group.costs)
        _take(query, found, group)
