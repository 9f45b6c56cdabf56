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
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from midstreamer_kernels.emit.values import Vectors


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
    masks: ir.Value | None = None
    """Of vector 0 in step 0: 0 in lanes within the band, +inf in others; None without a band."""


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


def laid(vectors: Vectors, count: ir.Value, delay: int) -> ir.Value:
    """Return how many vectors `lay` writes."""
    return vectors.builder.add(count, vectors.constant(delay * (vectors.shape.lanes + 1) + 2))


def lay(
    vectors: Vectors,
    target: ir.Value,
    count: ir.Value,
    delay: int,
    values: ir.Value | None,
) -> ir.Value:
    """Lay out a series, or as many zeros: lane l of vector s is number ``s - l * delay``.

    +inf stands beyond both ends. Vectors from ``-delay`` to ``count + delay * L + 1`` are written,
    the first at `target`; returned is where vector 0 lies.
    """
    shape = vectors.shape
    with vectors.for_range(0, laid(vectors, count, delay)) as at:
        vectors.store(vectors.infinite(), target, vectors.times_lanes(at.index), aligned=True)
    origin = vectors.at(target, delay * shape.lanes)
    zero = ir.Constant(shape.number.type, 0.0)
    for lane in range(shape.lanes):
        places = vectors.at(origin, lane * (delay * shape.lanes + 1))
        with vectors.for_range(0, count) as at:
            value = zero if values is None else vectors.load_one(values, at.index)
            vectors.store_one(value, places, vectors.times_lanes(at.index))
    return origin


def run(vectors: Vectors, strip: Strip) -> None:
    """Compute a strip of `Strip.steps` steps."""
    build, shape = vectors.builder, vectors.shape
    infinite = [vectors.infinite()] * shape.rows
    before = vectors.shift_in(vectors.load(strip.boundary, 2 - shape.lanes), infinite[0])
    pairs = build.ashr(build.add(strip.steps, vectors.constant(1)), vectors.constant(1))
    end = build.shl(pairs, vectors.constant(1))
    # Two steps a turn: the cells of one take the registers of those before the other.
    with vectors.for_range(0, end, 2, [*infinite, *infinite, before]) as loop:
        newest, older = loop.values[: shape.rows], loop.values[shape.rows : -1]
        above = loop.values[-1]
        for turn in range(2):
            step = build.add(loop.index, vectors.constant(turn))
            newest, older, above = _step(vectors, strip, step, newest, older, above)
        loop.carry([*newest, *older, above])
    odd = build.trunc(strip.steps, ir.IntType(1))
    for k in range(shape.rows):
        cells = build.select(odd, loop.values[shape.rows + k], loop.values[k])
        vectors.store(cells, strip.rows, k * shape.lanes, aligned=True)


def _step(
    vectors: Vectors,
    strip: Strip,
    step: ir.Value,
    newest: list[ir.Value],
    older: list[ir.Value],
    above: ir.Value,
) -> tuple[list[ir.Value], list[ir.Value], ir.Value]:
    build, shape = vectors.builder, vectors.shape
    column = vectors.at(strip.boundary, build.neg(step))
    entering = vectors.shift_in(vectors.load(column, 1 - shape.lanes), newest[-1])
    ups, diagonals = [entering, *newest], [above, *older]
    cells = list(older)
    points = vectors.at(strip.columns, vectors.times_lanes(step))
    for k in reversed(range(shape.rows)):
        row = vectors.load(strip.rows, k * shape.lanes, aligned=True)
        point = vectors.load(points, -k * shape.lanes, aligned=True)
        cells[k] = vectors.dtw_cell(row, point, newest[k], ups[k], diagonals[k])
        if strip.masks is not None:
            masks = vectors.at(strip.masks, vectors.times_lanes(step))
            mask = vectors.load(masks, -2 * k * shape.lanes, aligned=True)
            cells[k] = vectors.greatest(cells[k], mask)
    vectors.store(cells[-1], column, (shape.rows - 1) * shape.lanes)
    return cells, newest, entering
