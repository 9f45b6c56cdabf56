"""Dynamic time warping of one pair over the full matrix or within a band, strip by strip.

`emit_pair` and `emit_banded_pair` emit the comparison. The caller of the comparison allocates
scratch memory for it; `emit_room` emits the function that returns the size needed. A strip (see
`emit.matrix_strip`) computes the columns that its rows may use::

    full     all columns                          band w     |i - j| <= w
    strip 0  ################                     strip 0    ######
    strip 1  ################                     strip 1       #######
    strip 2  ################                     strip 2           ######

A mask gives the cells outside of the band an infinite cost. One table of masks serves all vectors
of all strips. To see that, let a strip of K vectors of L lanes begin in row b and column ``b - w``.
In step t, row r of the strip computes the cell with ``i - j = w + 2 r - t``. Lane l of vector k has
row ``r = l K + k``, so its cell is within the band when ``0 <= t - 2 k - 2 K l <= 2 w``. For each
lane l, this condition depends only on ``t - 2 k``, and not on the strip. So the mask of vector k in
step t is entry ``t - 2 k`` of the table.

Work at the slanted ends of a strip is wasted: a third of the strip at w = 100 with AVX2. An
alternative wastes nothing: it keeps the two newest anti-diagonals of the band in memory, and takes
five loads and two stores for two vectors. It took 22 microseconds and, on top of that, the time to
lay out its series. Strips take 25 microseconds. The alternative is not used, as it gains so little.

Early abandoning: a warping path crosses the last row of every strip, and costs only grow along a
path. So if no cost in that row is within the limit, the comparison ends and returns infinity. A
limit never changes a cost within the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llvmlite import ir

from midstreamer_kernels.emit import matrix_strip
from midstreamer_kernels.emit.vector_operations import Shape, Vectors, function

SCRATCH_ALIGNMENT = 64  # bytes, the widest vector of all supported processors


@dataclass(frozen=True)
class _Pair:
    """The arguments of a comparison of `a`, n points, with `b`, m points.

    `band` is None for the full matrix.
    """

    a: ir.Value
    n: ir.Value
    b: ir.Value
    m: ir.Value
    band: ir.Value | None
    limit: ir.Value


@dataclass(frozen=True)
class _Scratch:
    """Pointers to the parts of the scratch memory; see `matrix_strip.Strip` for their contents."""

    rows: ir.Value
    columns: ir.Value
    masks: ir.Value | None
    boundary: ir.Value


def emit_room(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``room(n, m, band)``, which returns the size of the scratch memory for a pair.

    The size is a number of elements. A band of -1 means the full matrix.
    """
    added, build = function(module, f"pair_room_{shape.name}", index, n=index, m=index, band=index)
    vectors = Vectors(build, shape, index)
    n, m, band = added.args
    m = build.select(_turned(vectors, n, m), n, m)
    laid = build.add(_columns_laid(vectors, m), _masks_laid(vectors, band))
    laid = vectors.times_lanes(build.add(laid, vectors.constant(shape.rows)))
    rest = build.add(_boundary_room(vectors, m), _line_room(vectors, m, band))
    build.ret(build.add(laid, rest))
    return added


def emit_pair(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``pair(a, n, b, m, limit, scratch) -> cost``: the squared distance, full matrix."""
    number = shape.number
    added, build = function(
        module, f"pair_{shape.name}", number.type,
        a=number.pointer, n=index, b=number.pointer, m=index,
        limit=number.type, scratch=number.pointer,
    )  # fmt: skip
    a, n, b, m, limit, scratch = added.args
    vectors = Vectors(build, shape, index)
    _compare(vectors, _oriented(vectors, _Pair(a, n, b, m, None, limit)), scratch)
    return added


def emit_banded_pair(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``banded_pair(a, n, b, m, band, limit, scratch) -> cost``: the squared distance.

    `band` is at least ``|n - m|``.
    """
    number = shape.number
    added, build = function(
        module, f"banded_pair_{shape.name}", number.type,
        a=number.pointer, n=index, b=number.pointer, m=index, band=index,
        limit=number.type, scratch=number.pointer,
    )  # fmt: skip
    a, n, b, m, band, limit, scratch = added.args
    vectors = Vectors(build, shape, index)
    _compare(vectors, _oriented(vectors, _Pair(a, n, b, m, band, limit)), scratch)
    return added


def _turned(vectors: Vectors, n: ir.Value, m: ir.Value) -> ir.Value:
    """Return one bit: whether to swap the two series, because that takes fewer steps.

    If they are swapped, the rows of the matrix belong to the points of `b` instead of `a`. The cost
    has the same bits either way.
    """
    build, height = vectors.builder, vectors.constant(vectors.shape.rows * vectors.shape.lanes)

    def steps(rows: ir.Value, columns: ir.Value) -> ir.Value:
        strips = build.sdiv(build.add(rows, build.sub(height, vectors.constant(1))), height)
        return build.mul(strips, build.add(columns, height))

    return build.icmp_signed("<", steps(m, n), steps(n, m))


def _oriented(vectors: Vectors, pair: _Pair) -> _Pair:
    choose, turned = vectors.builder.select, _turned(vectors, pair.n, pair.m)
    return replace(
        pair,
        a=choose(turned, pair.b, pair.a),
        n=choose(turned, pair.m, pair.n),
        b=choose(turned, pair.a, pair.b),
        m=choose(turned, pair.n, pair.m),
    )


def _columns_laid(vectors: Vectors, m: ir.Value) -> ir.Value:
    return matrix_strip.laid(vectors, m, vectors.shape.rows)


def _masks_laid(vectors: Vectors, band: ir.Value) -> ir.Value:
    # This is the number of vectors in the table of masks. `matrix_strip.lay` writes the table: one
    # zero for each diagonal inside of the band, and +inf for all other diagonals. A band of w has
    # 2 w + 1 diagonals. A band of -1 means the full matrix, which uses no masks.
    return matrix_strip.laid(vectors, _diagonals(vectors, band), 2 * vectors.shape.rows)


def _line_room(vectors: Vectors, m: ir.Value, band: ir.Value) -> ir.Value:
    # `matrix_strip.lay` is called twice with the same scratch memory: for m columns, and then for
    # the diagonals of the masks. `both` is the sum of the two counts, so the memory is large enough
    # for either call.
    both = vectors.builder.add(m, _diagonals(vectors, band))
    return matrix_strip.line_room(vectors, both, 2 * vectors.shape.rows)


def _diagonals(vectors: Vectors, band: ir.Value) -> ir.Value:
    return vectors.builder.add(vectors.builder.add(band, band), vectors.constant(1))


def _boundary_room(vectors: Vectors, m: ir.Value) -> ir.Value:
    # Room for the columns from -K L to m + K L (K vectors of L lanes), and one vector more at
    # either end.
    shape = vectors.shape
    return vectors.builder.add(m, vectors.constant((2 * shape.rows + 2) * shape.lanes))


def _compare(vectors: Vectors, pair: _Pair, memory: ir.Value) -> None:
    build, shape = vectors.builder, vectors.shape
    height = vectors.constant(shape.rows * shape.lanes)
    scratch = _prepare(vectors, pair, memory)
    infinity = ir.Constant(shape.number.type, float("inf"))
    limited = build.fcmp_ordered("<", pair.limit, infinity)
    with vectors.for_range(0, pair.n, shape.rows * shape.lanes) as loop:
        base = loop.index
        left = build.sub(pair.n, base)
        count = build.select(build.icmp_signed("<", left, height), left, height)
        matrix_strip.lay_rows(vectors, scratch.rows, pair.a, base, pair.n)
        first, part = _strip(vectors, pair, scratch, base, count)
        matrix_strip.run(vectors, part)
        # Check the limit after every strip except the last one. The last strip may have fewer rows,
        # and after it the distance is known.
        with build.if_then(build.and_(limited, build.icmp_signed(">", left, height))):
            end = build.sub(build.add(first, part.steps), build.sub(count, vectors.constant(1)))
            with build.if_then(_hopeless(vectors, scratch.boundary, first, end, pair.limit)):
                build.ret(infinity)
    build.ret(_corner(vectors, scratch.rows, pair.n))


def _prepare(vectors: Vectors, pair: _Pair, memory: ir.Value) -> _Scratch:
    build, shape = vectors.builder, vectors.shape
    infinity = ir.Constant(shape.number.type, float("inf"))
    columns_at = vectors.at(memory, shape.rows * shape.lanes)
    masks_at = vectors.at(columns_at, vectors.times_lanes(_columns_laid(vectors, pair.m)))
    band = vectors.constant(-1) if pair.band is None else pair.band
    boundary_at = vectors.at(masks_at, vectors.times_lanes(_masks_laid(vectors, band)))
    size = _boundary_room(vectors, pair.m)
    line = vectors.at(boundary_at, size)
    columns = matrix_strip.lay(vectors, columns_at, line, pair.b, pair.m, shape.rows)
    masks = None
    if pair.band is not None:
        count = _diagonals(vectors, band)
        masks = matrix_strip.lay(vectors, masks_at, line, None, count, 2 * shape.rows)
    with vectors.for_range(0, size) as loop:
        vectors.store_one(infinity, boundary_at, loop.index)
    above = build.add(pair.m, vectors.constant((shape.rows + 1) * shape.lanes))
    boundary = vectors.at(boundary_at, above)
    # The cell (-1, -1), where every warping path begins, has the cost 0.
    vectors.store_one(ir.Constant(shape.number.type, 0.0), boundary, 1)
    return _Scratch(memory, columns, masks, boundary)


def _strip(
    vectors: Vectors, pair: _Pair, scratch: _Scratch, base: ir.Value, count: ir.Value
) -> tuple[ir.Value, matrix_strip.Strip]:
    """Return the number of the first column of a strip, and the strip itself.

    The strip has `count` rows, from row `base` of the matrix on.
    """
    build, shape = vectors.builder, vectors.shape
    one = vectors.constant(1)
    first, masks = vectors.constant(0), None
    steps = build.add(pair.m, build.sub(count, one))
    if pair.band is not None and scratch.masks is not None:
        start = build.sub(base, pair.band)
        first = build.select(build.icmp_signed("<", start, first), first, start)
        # Compute one column more than the last row of the strip has within its band. The last row's
        # cell in this column is outside of the band, so its cost is infinite. The next strip reads
        # this cost above a cell of its first row.
        reach = build.add(
            build.add(base, pair.band), vectors.constant(2 * shape.rows * shape.lanes)
        )
        steps = build.select(build.icmp_signed("<", reach, steps), reach, steps)
        steps = build.sub(steps, first)
        masks = _masks(vectors, pair.band, scratch.masks, build.sub(first, start), steps)
    columns = vectors.at(scratch.columns, vectors.times_lanes(first))
    boundary = vectors.at(scratch.boundary, build.neg(first))
    return first, matrix_strip.Strip(scratch.rows, columns, boundary, steps, masks)


def _masks(
    vectors: Vectors, band: ir.Value, table: ir.Value, ahead: ir.Value, steps: ir.Value
) -> matrix_strip.Masks:
    """Return the masks of a strip.

    In the first row of the strip the band begins at some column. If that column is negative, the
    strip begins at column 0 instead, `ahead` columns later. Otherwise `ahead` is 0.
    """
    build, shape = vectors.builder, vectors.shape

    def even(value: ir.Value) -> ir.Value:
        return build.and_(value, vectors.constant(-2))

    def least(a: ir.Value, b: ir.Value) -> ir.Value:
        return build.select(build.icmp_signed("<", a, b), a, b)

    # The strip has K vectors of L lanes, and w is the band. All lanes are within the band from step
    # 2 K L - 2 - `ahead` to step 2 w - `ahead`. For example, if the strip begins at the first
    # column of the band, `ahead` is 0, and these are the steps 2 K L - 2 to 2 w.
    most, one = even(steps), vectors.constant(1)
    begin = build.sub(vectors.constant(2 * shape.rows * shape.lanes), ahead)
    begin = build.select(
        build.icmp_signed("<", begin, vectors.constant(0)), vectors.constant(0), begin
    )
    begin = least(even(build.add(begin, one)), most)
    end = least(even(build.add(build.sub(build.add(band, band), ahead), one)), most)
    end = build.select(build.icmp_signed("<", end, begin), begin, end)
    return matrix_strip.Masks(vectors.at(table, vectors.times_lanes(ahead)), begin, end)


def _hopeless(
    vectors: Vectors, boundary: ir.Value, first: ir.Value, end: ir.Value, limit: ir.Value
) -> ir.Value:
    """Return one bit: whether all costs of the last row in the columns [first, end) exceed `limit`.

    Some further cells of the same matrix may be read too. They can only make the result false,
    which is safe: the comparison goes on.
    """
    build, lanes = vectors.builder, vectors.shape.lanes
    with vectors.for_range(first, end, lanes, [vectors.infinite()]) as loop:
        cells = vectors.load(vectors.at(boundary, build.neg(loop.index)), 1 - lanes)
        loop.carry([vectors.least(loop.values[0], cells)])
    return build.not_(vectors.any_within(loop.values[0], vectors.splat(limit)))


def _corner(vectors: Vectors, rows: ir.Value, n: ir.Value) -> ir.Value:
    """Load the cost of the whole comparison: the last cell of row n - 1.

    `rows` is `Strip.rows` after the last strip: it holds the last cell of each row of that strip.
    """
    build, shape = vectors.builder, vectors.shape
    row = build.srem(build.sub(n, vectors.constant(1)), vectors.constant(shape.rows * shape.lanes))
    lane = build.sdiv(row, vectors.constant(shape.rows))
    vector = build.srem(row, vectors.constant(shape.rows))
    return vectors.load_one(rows, build.add(vectors.times_lanes(vector), lane))
