"""SPRING for one new point of a stream and many patterns, one pattern per lane.

The algorithm is that of `reference.spring`. Of a pattern's cost matrix only one column is kept: the
cells at the newest point, one per pattern point. A new cell depends on its neighbours to the left
(the point before), below (the pattern point before) and on the diagonal. Below the first pattern
point every cell is 0, because a path may begin at any point of the stream.

`emit_columns` computes the columns in float64, with the start of each cell's path. `emit_filter`
computes a lower bound of the columns in 16-bit integers: a quarter of the memory of float64, and
twice the lanes of float32. Integer sums and minima have no rounding errors, and the squared
differences are rounded down, so the bound holds for paths of any length. Sums saturate at 65,535,
which is beyond every limit.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import BIT, VOID, Number, Shape, Vectors, function

_LONG = ir.IntType(64)
UINT16 = Number("uint16", 2, ir.IntType(16), ir.IntType(16))
INT64 = Number("int64", 8, _LONG, _LONG)


def emit_filter(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the next SPRING column of ``lanes * rows`` patterns in 16-bit integers.

    `cells` is the column, which the function updates. It has one row per pattern point, and each
    row has one element per pattern. `points` has the pattern points in the same layout. Each
    pattern has an integer scale. On that scale every point is rounded to an integer, its position.
    Let p be the position of the new point, and q the position of a pattern point. Rounding can make
    their absolute difference too great by up to 1. So this difference is reduced by 1, but not
    below 0. For each pattern, `under` has ``p - 1`` and `over` has ``p + 1``. The reduced
    difference is ``(p - 1) - q`` if p is greater than q, and ``q - (p + 1)`` if p is less than q.

    The reduced difference is limited to the pattern's element of `caps`. So the product of the
    limited difference and the pattern's element of `factors` fits 16 bits. The cost of a cell is
    the least cost of its neighbours plus the upper 16 bits of the square of that product. The
    function returns whether for any pattern the cell of the last row is at most the pattern's
    element of `limits`.
    """
    item = shape.number.pointer
    emitted, builder = function(
        module, f"spring_filter_{shape.name}", BIT,
        cells=item, points=item, under=item, over=item, factors=item, caps=item, limits=item,
        count=index,
    )  # fmt: skip
    given = {argument.name: argument for argument in emitted.args}
    vectors = Vectors(builder, shape, index)
    whole = _Whole(vectors)
    rows = range(shape.rows)
    lanes = [vectors.constant(row * shape.lanes) for row in rows]
    under, over, factors, caps = (
        [vectors.load(given[name], lane) for lane in lanes]
        for name in ("under", "over", "factors", "caps")
    )
    nothing = ir.Constant(shape.vector, None)
    with vectors.for_range(0, given["count"], carried=[nothing] * (2 * shape.rows)) as loop:
        first = builder.mul(loop.index, vectors.constant(shape.lanes * shape.rows))
        lefts, fresh = [], []
        for row in rows:
            place = builder.add(first, lanes[row])
            left, point = vectors.load(given["cells"], place), vectors.load(given["points"], place)
            apart = builder.or_(
                whole.less(under[row], point), whole.less(point, over[row])
            )  # saturation makes at least one of these differences 0; `or` returns the other
            step = builder.mul(whole.least(apart, caps[row]), factors[row])
            below, diagonal = loop.values[row], loop.values[shape.rows + row]
            best = whole.least(whole.least(left, diagonal), below)
            cell = whole.plus(whole.square(step), best)
            vectors.store(cell, given["cells"], place)
            lefts.append(left)
            fresh.append(cell)
        loop.carry(fresh + lefts)
    found: Any = ir.Constant(BIT, 0)
    for row in rows:
        limit = vectors.load(given["limits"], lanes[row])
        found = builder.or_(found, whole.any_within(loop.values[row], limit))
    builder.ret(found)
    return emitted


class _Whole:
    """Saturating arithmetic of unsigned 16-bit integers, which never wraps around."""

    def __init__(self, vectors: Vectors) -> None:
        self._builder, self._shape = vectors.builder, vectors.shape
        self._wide = ir.VectorType(ir.IntType(32), vectors.shape.lanes)

    def less(self, a: Any, b: Any) -> Any:
        """Return ``a - b``, or 0 where the difference is negative."""
        return self._call("usub", a, b)

    def plus(self, a: Any, b: Any) -> Any:
        """Return ``a + b``, or 65,535 where the sum is greater."""
        return self._call("uadd", a, b)

    def least(self, a: Any, b: Any) -> Any:
        return self._builder.select(self._builder.icmp_unsigned("<", a, b), a, b)

    def square(self, a: Any) -> Any:
        """Return the upper 16 bits of ``a * a``, for which every processor has an instruction."""
        wide = self._builder.zext(a, self._wide)
        sixteen = ir.Constant(self._wide, [16] * self._shape.lanes)
        upper = self._builder.lshr(self._builder.mul(wide, wide), sixteen)
        return self._builder.trunc(upper, self._shape.vector)

    def any_within(self, a: Any, b: Any) -> Any:
        """Return one bit: whether ``a <= b`` in any lane, for unsigned integers."""
        mask = ir.IntType(self._shape.lanes)
        within = self._builder.bitcast(self._builder.icmp_unsigned("<=", a, b), mask)
        return self._builder.icmp_unsigned("!=", within, mask(0))

    def _call(self, name: str, a: Any, b: Any) -> Any:
        vector = self._shape.vector
        called = f"llvm.{name}.sat.v{self._shape.lanes}i16"
        module: Any = self._builder.module
        known = module.globals.get(called)
        target = known or ir.Function(module, ir.FunctionType(vector, [vector, vector]), called)
        return self._builder.call(target, [a, b])


def emit_columns(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the next SPRING column of ``lanes * rows`` patterns in float64.

    The function updates `cells`, the costs of the column, and `starts`. An element of `starts` is
    the position in the stream at which the path to the cell begins. For each pattern the function
    also writes two costs. The element of `least` receives the least cost in the new column. The
    element of `pending` receives the least cost of the cells whose paths begin before the pattern's
    element of `ends`, which is the end of the pattern's best match so far, or 0.
    """
    item, whole = shape.number.pointer, INT64.pointer
    emitted, builder = function(
        module, f"spring_columns_{shape.name}", VOID,
        cells=item, starts=whole, points=item, value=shape.number.type, position=_LONG,
        ends=whole, pending=item, least=item, count=index,
    )  # fmt: skip
    given = {argument.name: argument for argument in emitted.args}
    vectors = Vectors(builder, shape, index)
    _Columns(vectors, Vectors(builder, Shape(INT64, shape.lanes, shape.rows), index), given).write()
    return emitted


class _Columns:
    def __init__(self, costs: Vectors, starts: Vectors, given: dict[str, Any]) -> None:
        self.costs, self.starts, self.given = costs, starts, given
        self.lanes = [costs.constant(row * costs.shape.lanes) for row in range(costs.shape.rows)]

    def write(self) -> None:
        costs, given, rows = self.costs, self.given, len(self.lanes)
        value = costs.splat(given["value"])
        ends = [self.starts.load(given["ends"], lane) for lane in self.lanes]
        begin = [costs.every(0.0), self.starts.splat(given["position"])]
        carried = [*begin, *begin, costs.infinite(), costs.infinite()] * rows
        with costs.for_range(0, given["count"], carried=carried) as loop:
            first = costs.builder.mul(loop.index, costs.constant(costs.shape.lanes * rows))
            following: list[Any] = []
            for row, lane in enumerate(self.lanes):
                place = costs.builder.add(first, lane)
                following += self._cell(loop.values[6 * row : 6 * row + 6], place, value, ends[row])
            loop.carry(following)
        for row, lane in enumerate(self.lanes):
            costs.store(loop.values[6 * row + 4], given["pending"], lane)
            costs.store(loop.values[6 * row + 5], given["least"], lane)
        costs.builder.ret_void()

    def _cell(self, carried: list[Any], place: Any, value: Any, end: Any) -> list[Any]:
        """Emit one row of cells; return the values to carry to the next row.

        `carried` holds six values: cost and start of the cell below, cost and start of the diagonal
        cell, and two minima. The minima are the values of `pending` and `least` for the rows so
        far.
        """
        costs, build = self.costs, self.costs.builder
        below, below_start, diagonal, diagonal_start, pending, least = carried
        left = costs.load(self.given["cells"], place)
        left_start = self.starts.load(self.given["starts"], place)
        step = costs.sub(value, costs.load(self.given["points"], place))
        best, start = left, left_start
        for cost, begun in ((diagonal, diagonal_start), (below, below_start)):
            nearer = build.fcmp_ordered("<=", cost, best)  # of equal costs take the latest start
            best, start = build.select(nearer, cost, best), build.select(nearer, begun, start)
        cell = costs.add(costs.mul(step, step), best)
        costs.store(cell, self.given["cells"], place)
        self.starts.store(start, self.given["starts"], place)
        held = build.select(build.icmp_signed("<", start, end), cell, costs.infinite())
        return [cell, start, left, left_start,
                costs.lesser(pending, held), costs.lesser(least, cell)]  # fmt: skip
