"""The rows of a collection nearest to a query: bounds, float32 in lanes, float64 in lanes.

Each step looks only at rows that the one before could not rule out:

1. *Sketch.* The bound of every row from its means (`sketch`).
2. *Seeds.* The rows with the least bounds are compared first: the k-th best is then nearly final.
3. *Envelopes.* LB_Keogh (Keogh and Ratanamahatana 2005): the squared excess of a row over the
   envelope of the query; and if that does not rule it out, of the query over the row's envelope.
4. *Lanes.* The comparison itself, in float32 (`lanes`).
5. *Again.* What float32 puts within reach is compared in float64, which alone gives answers.

How far float32 may be off. Let x and y be the exact points, moved and scaled by the same numbers so
that they fit float32, and x', y' what float32 keeps of them; a path has at most p = n + m - 1 cells
and u = 2**-24.

- Along any path each difference changes by at most e = max|x - x'| + max|y - y'|, so by the
  triangle inequality the root of a path's cost changes by at most sqrt(p) e. So do the least costs.
- A difference, a square and at most p - 1 sums round a term by at most p + 2 factors within 1 - u
  and 1 + u; minima round nothing, and all terms are positive. So the root of the cost computed in
  float32 is off by at most a factor ``(1 + u)**((p + 2) / 2)``, whatever path it took. Squares too
  small for float32 are off by less than 2**-125 each.

Hence both ways, with g = exp((p + 4) u) > (1 + u)**(p + 3) and what float64 rounds thrown in:

    narrow <= (exact + sqrt(p) e) g      a row computed as farther is ruled out
    exact  <= narrow g + sqrt(p) e       k rows computed as near are as near as this

Bounds are sums of fewer terms, each at most one of the path, so the first line holds for them too;
means are rounded like points, for which e is doubled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from midstreamer_kernels.emit import envelope as emit_envelope
from midstreamer_kernels.emit.choose import emit_choose
from midstreamer_kernels.emit.gather import emit_fetch, emit_gather
from midstreamer_kernels.emit.values import FLOAT32, Shape
from midstreamer_kernels.native import lanes
from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.heap import offer
from midstreamer_kernels.native.lanes import LANES_32, PADDING, block_cells, dtw_block, empty_block
from midstreamer_kernels.native.sketch import near_threshold, sketch_bounds

SEEDS = 2 * LANES_32  # rows compared before bounds are looked at, beside two for each match wanted
BOTH_WAYS_MAX = 32  # the band beyond which a row's envelope rules out less than it costs
AHEAD = 6  # rows asked for before they are read: the wait for memory is longer than the work

_gather = emitted(emit_gather, lanes.shape_for(FLOAT32))
_register = Shape(FLOAT32, LANES_32 // 2, 1)
_envelope_excess = emitted(emit_envelope.emit_envelope_excess, _register)
_choose = emitted(emit_choose, _register)
_fetch = emitted(emit_fetch, lanes.shape_for(FLOAT32))


class Query(NamedTuple):
    """A query made ready: float32, moved and scaled like the rows."""

    points: Any
    upper: Any
    """The envelope, shape (m,)."""
    lower: Any
    upper_means: Any
    """Of the envelope's segments."""
    lower_means: Any
    band: int
    noise: float
    """How far the root of a cost may be off by the rounding of points."""
    growth: float
    """The factor by which it may be off by the rounding of sums."""
    tiny: float
    """What a cost may lack because squares vanished."""


class Found(NamedTuple):
    """The rows that float32 put within reach, in no order, and the best so far."""

    rows: Any
    costs: Any
    count: Any
    """How many, shape (1,)."""
    best: Any
    """A heap of the k least costs; empty when every row within `cutoff` is wanted."""
    best_rows: Any
    best_count: Any
    shared: Any
    """A distance that the k-th nearest row does not exceed, shape (1,), common to all threads.

    It begins as the cutoff. Threads write it without a lock: one may overwrite what another just
    wrote by something greater. That costs time, not exactness, for every value was right.
    """


class Group(NamedTuple):
    """Rows waiting to be compared side by side."""

    starts: Any
    """Where each row begins, in elements."""
    waiting: Any
    """Which rows these are."""
    count: Any
    """How many, shape (1,)."""
    block: Any
    cells: Any
    costs: Any


@jit
def cost_within(query: Any, distance: float) -> float:
    """Return the cost that float32 does not exceed for rows within `distance`."""
    root = (distance + query.noise) * query.growth
    return float(root * root + query.tiny)


@jit
def distance_within(query: Any, cost: float) -> float:
    """Return the distance that rows of this cost in float32 do not exceed."""
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
    """Keep those rows of a compared group that are near enough."""
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
    """Compare the rows that wait in `group`."""
    m, count = rows.shape[1], group.count[0]
    for lane in range(LANES_32):
        # Lanes without a row repeat the first.
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
    """Compare the chosen rows, but for those that are ruled out by what is found meanwhile."""
    for number in range(chosen.size):
        place = chosen[number]
        if bounds[place] <= cost_within(query, found.shared[0]):
            group.waiting[group.count[0]] = first + place
            group.count[0] += 1
        # One call for full groups and for the last one: each is compiled into its caller.
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
    """Return scratch memory for `bound_of_query`."""
    return np.zeros((emit_envelope.ROWS, max(n, m) + 2 * band + 3 * LANES_32), np.float32)


@jit
def bound_of_query(points: Any, row: Any, band: int, room: Any) -> Any:
    """Return the squared excess of the query's `points` over the envelope of `row`."""
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
    """Find what is near among the rows [first, last), `first` a multiple of `CHUNK`.

    Parameters
    ----------
    rows : ndarray, shape (n, m), float32
    sketch, ends
        Of all rows; see `sketch`.
    query : Query
    found : Found
        Receives the rows; room for all of them.
    """
    whole = -(-(last - first) // LANES_32) * LANES_32
    room = np.full(whole, np.nan, np.float32)  # which is within no limit
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
            bounds[chosen[number]] = np.nan  # done


@jit
def _choose_by_envelope(
    rows: Any, query: Any, found: Any, first: int, chosen: Any, count: int, bounds: Any
) -> int:
    """Keep the chosen rows that their envelopes do not rule out; write the bounds to `bounds`."""
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
    """Find what is near among the rows [first, last) without any bound.

    `blocks` has rows in lanes, shape (blocks, elements), as `native.lanes` wants them; `first` is a
    multiple of the lanes.
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
