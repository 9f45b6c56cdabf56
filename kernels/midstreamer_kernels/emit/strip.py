"""A strip of the cost matrix of one pair, its newest cells in registers.

With K = `Shape.rows` vectors of L lanes a strip has K * L rows: row ``l * K + k`` of it lives
in lane l of vector k. Row r is r columns behind the first, so that in step t

    vector k, lane l   computes   row l * K + k,  column  t - l * K - k

and all K vectors of a step depend on earlier steps only::

    step t - 2   p[0]  p[1]  p[2]          c[k] = (row - column)**2
    step t - 1   c[0]  c[1]  c[2]                 + min(c[k], c[k-1], p[k-1])
                   \\    \\    \\                    left  above   diagonal
    step t        c[0]  c[1]  c[2]

What lies above vector 0 is the last vector, moved by one lane: its first lane gets the cell above
the strip, from the row of costs that the strip before left in memory. So a step takes one shuffle,
and each vector five operations: subtract, multiply, two minima, add. Within a vector the columns
are K apart, which is why they are laid out once, vector by vector (`lay_columns`); the same vector
serves vector k of the strip k steps later.

The row of costs between two strips is kept backwards, column j at ``-j`` from `Boundary`. Storing a
whole vector then puts its last lane, the wanted one, to column j and what is not wanted to columns
that are stored later: a store takes one instruction and no lane is taken out. A column is stored
K * L - 1 steps after it was read, hence in place.

Cells outside of the matrix have a column of +inf, and so have an infinite cost by themselves.

1,000 by 1,000 points of float32 take 75 microseconds with AVX2 (8 lanes, 6 vectors), where walking
the anti-diagonals in memory took 248; most of the processor's vector units are busy then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir

from midstreamer_kernels.emit.values import Vectors


@dataclass(frozen=True)
class Masks:
    """What keeps a strip within the band."""

    table: ir.Value
    """Of vector 0 in step 0: 0 in lanes within the band, +inf in others."""
    begin: ir.Value
    """The first of the steps, an even one, that are within the band in all lanes."""
    end: ir.Value
    """The first after them, an even one; `begin` when there are none."""


@dataclass(frozen=True)
class Strip:
    """Where the parts of a strip lie; pointers to elements, on whole vectors but `boundary`."""

    rows: ir.Value
    """Values of the rows, vector k at ``k * L``; the costs of the last step are left here."""
    columns: ir.Value
    """The laid out columns, from that of vector 0 in step 0."""
    boundary: ir.Value
    """Cost above column 0 of the strip; that of column j at -j."""
    steps: ir.Value
    masks: Masks | None = None
    """None without a band."""


def lay_rows(
    vectors: Vectors, target: ir.Value, values: ir.Value, first: ir.Value, count: ir.Value
) -> None:
    """Write the rows from `first` of a series of `count` to `target`, as `Strip.rows` has them.

    Rows beyond the end repeat the last: costs of later rows never reach earlier ones.
    """
    build, shape = vectors.builder, vectors.shape
    most = build.sub(count, vectors.constant(1))
    with vectors.for_range(0, shape.lanes) as lane:
        start = build.add(first, build.mul(lane.index, vectors.constant(shape.rows)))
        for k in range(shape.rows):
            row = build.add(start, vectors.constant(k))
            row = build.select(build.icmp_signed("<", row, most), row, most)
            place = build.add(lane.index, vectors.constant(k * shape.lanes))
            vectors.store_one(vectors.load_one(values, row), target, place)


def line_room(vectors: Vectors, count: ir.Value, delay: int) -> ir.Value:
    """Return how many elements `lay` needs for `count` values, before they are laid out."""
    around = 2 * (delay + 1) * vectors.shape.lanes + delay
    return vectors.builder.add(count, vectors.constant(around))


def laid(vectors: Vectors, count: ir.Value, delay: int) -> ir.Value:
    """Return how many vectors `lay` writes."""
    lanes = vectors.shape.lanes
    return vectors.builder.add(count, vectors.constant(delay * (lanes + 1) + lanes + 1))


def lay(
    vectors: Vectors,
    target: ir.Value,
    line: ir.Value,
    values: ir.Value | None,
    count: ir.Value,
    delay: int,
) -> ir.Value:
    """Lay out `count` values, or as many zeros: lane l of vector s is number ``s - l * delay``.

    +inf stands beyond both ends. Vectors from ``-delay`` to ``count + delay * L`` are written, the
    first at `target`; returned is where vector 0 lies. `line` is scratch memory for `line_room`.
    """
    build, lanes = vectors.builder, vectors.shape.lanes
    with vectors.for_range(0, line_room(vectors, count, delay)) as at:
        vectors.store_one(vectors.last(vectors.infinite()), line, at.index)
    first = vectors.at(line, delay * lanes)
    with vectors.for_range(0, count) as at:
        zero = ir.Constant(vectors.shape.number.type, 0.0)
        value = zero if values is None else vectors.load_one(values, at.index)
        vectors.store_one(value, first, at.index)
    # Vector s has, lane by lane, what lies at s, s - delay, s - 2 delay ... in the line: a whole
    # vector read there in each lane's place gives L vectors, turned by a transposition.
    total = build.sub(laid(vectors, count, delay), vectors.constant(lanes - 1))
    with vectors.for_range(0, total, lanes) as at:
        here = vectors.at(first, build.sub(at.index, vectors.constant(delay)))
        square = [vectors.load(here, -lane * delay) for lane in range(lanes)]
        there = vectors.at(target, vectors.times_lanes(at.index))
        for place, vector in enumerate(vectors.transposed(square)):
            vectors.store(vector, there, place * lanes, aligned=True)
    return vectors.at(target, delay * lanes)


def run(vectors: Vectors, strip: Strip) -> None:
    """Compute a strip of `Strip.steps` steps."""
    build, shape = vectors.builder, vectors.shape
    infinite = [vectors.infinite()] * shape.rows
    before = vectors.shift_in(vectors.load(strip.boundary, 2 - shape.lanes), infinite[0])
    cells = _Cells(infinite, infinite, before)
    begin, masks = vectors.constant(0), strip.masks
    if masks is not None:
        cells = _turns(vectors, strip, begin, masks.begin, cells, masks.table)
        cells = _turns(vectors, strip, masks.begin, masks.end, cells)
        cells = _turns(vectors, strip, masks.end, strip.steps, cells, masks.table)
    else:
        cells = _turns(vectors, strip, begin, strip.steps, cells)
    odd = build.trunc(strip.steps, ir.IntType(1))
    for k in range(shape.rows):
        cost = build.select(odd, cells.older[k], cells.newest[k])
        vectors.store(cost, strip.rows, k * shape.lanes, aligned=True)


class _Cells(NamedTuple):
    """The cells of the last two steps, and what entered vector 0 from above in the last."""

    newest: list[ir.Value]
    older: list[ir.Value]
    above: ir.Value

    @classmethod
    def of(cls, values: list[ir.Value]) -> _Cells:
        rows = len(values) // 2
        return cls(values[:rows], values[rows : 2 * rows], values[-1])


def _turns(
    vectors: Vectors,
    strip: Strip,
    begin: ir.Value,
    end: ir.Value,
    cells: _Cells,
    masks: ir.Value | None = None,
) -> _Cells:
    """Compute the steps from an even one to before `end`, or one more where their count is odd.

    Two steps a turn: the cells of one take the registers of those before the other. Places are
    kept as pointers to the lowest address of a turn: offsets from there are positive, which makes
    them a part of the loading instruction in WebAssembly too, and optimisers keep them apart.
    """
    build, lanes, behind = vectors.builder, vectors.shape.lanes, vectors.shape.rows - 1
    forward = vectors.times_lanes(begin)
    places = [
        vectors.at(vectors.at(strip.columns, forward), -behind * lanes),
        vectors.at(strip.boundary, build.sub(vectors.constant(-lanes), begin)),
    ]
    strides = [2 * lanes, -2]
    if masks is not None:
        places.append(vectors.at(vectors.at(masks, forward), -2 * behind * lanes))
        strides.append(2 * lanes)
    state = [*cells.newest, *cells.older, cells.above]
    with vectors.for_range(begin, end, 2, [*places, *state]) as loop:
        here, cells = loop.values[: len(places)], _Cells.of(loop.values[len(places) :])
        for turn in range(2):
            cells = _step(vectors, strip.rows, here, turn, cells)
        if vectors.shape.stores_last:
            _leave(vectors, here[1], 0, cells.older)
            _leave(vectors, here[1], 1, cells.newest)
        following = [vectors.at(place, stride) for place, stride in zip(here, strides, strict=True)]
        loop.carry([*following, *cells.newest, *cells.older, cells.above])
    return _Cells.of(loop.values[len(places) :])


def _step(
    vectors: Vectors, rows: ir.Value, places: list[ir.Value], turn: int, cells: _Cells
) -> _Cells:
    shape = vectors.shape
    columns, boundary, *masks = places
    entering = vectors.shift_in(vectors.load(boundary, 1 - turn), cells.newest[-1])
    ups, diagonals = [entering, *cells.newest], [cells.above, *cells.older]
    fresh = list(cells.newest)
    for k in reversed(range(shape.rows)):
        later = shape.rows - 1 - k
        row = vectors.load(rows, k * shape.lanes, aligned=True)
        point = vectors.load(columns, (later + turn) * shape.lanes, aligned=True)
        fresh[k] = vectors.dtw_cell(row, point, cells.newest[k], ups[k], diagonals[k])
        for mask in masks:
            outside = vectors.load(mask, (2 * later + turn) * shape.lanes, aligned=True)
            fresh[k] = vectors.greatest(fresh[k], outside)
    if not shape.stores_last:
        _leave(vectors, boundary, turn, fresh)
    return _Cells(fresh, cells.newest, entering)


def _leave(vectors: Vectors, boundary: ir.Value, turn: int, cells: list[ir.Value]) -> None:
    """Store the costs of the last row for the strip below."""
    vectors.store(cells[-1], boundary, vectors.shape.rows * vectors.shape.lanes - turn)
