"""LB_Keogh lower bounds of many neighbouring windows at once, one window in each lane.

Lane l holds the window that is l windows after the window in lane 0. Neighbouring windows overlap,
so their points at one offset are adjacent in the history. One vector load therefore reads that
point of many windows, and nothing is transposed. Each window has its own scale, so a point x is
z-normalised on the fly as ``x * slope - offset``.

Two bounds are summed in one pass (Keogh and Ratanamahatana 2005). Forward: how far the window's
points lie outside of the query's envelope. Backward: how far the query's points lie outside of the
window's envelope, which is read from the envelope of the surrounding history. Each term of the sums
is for one *place*: one point, or the mean of several points. Means give a valid bound, because the
excess of a mean is at most the mean of the excesses, and its square at most the mean of their
squares (Yi and Faloutsos 2000).

The bounds are compared with a tolerance for rounding, and they never appear in a result. So only
here the compiler may fuse a multiplication and an addition where the processor can do that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import BIT, VOID, Shape, Vectors, function

_FUSE = ("contract",)


def emit_unmatched(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the LCSS bounds of ``lanes * rows`` windows: the number of points without a match.

    The function has the arguments of `emit_keogh`, and `epsilons` with one number per window. A
    point has no match if it lies outside of the other series' envelope by more than that number.
    The function adds 1 to `forward` for each such point of the window, and 1 to `backward` for each
    such point of the query.
    """
    return _emit_sums(module, shape, index, "unmatched", _plus_one, ("epsilons",))


def emit_keogh(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the LB_Keogh bounds of ``lanes * rows`` windows: add the terms [begin, end) to the sums.

    A term compares one point, or one mean of several points. Each window has two sums, one in
    `forward` and one in `backward`, to which the function adds squared excesses. It returns whether
    for any window the greater of the two sums is below the window's element of `limits`.

    ``places[t]`` says where to read the point or mean of term t: at this number of elements after
    a window's first element. The same offset applies to `points` and to its envelope, `uppers` and
    `lowers`.
    """
    return _emit_sums(module, shape, index, "keogh", _plus_square, ())


def _emit_sums(
    module: ir.Module,
    shape: Shape,
    index: ir.IntType,
    name: str,
    plus: Callable[..., Any],
    extra: tuple[str, ...],
) -> ir.Function:
    item = shape.number.pointer
    emitted, builder = function(
        module, f"{name}_{shape.name}", BIT,
        points=item, uppers=item, lowers=item, places=ir.PointerType(index),
        queries=item, highs=item, lows=item, begin=index, end=index,
        slopes=item, offsets=item, forward=item, backward=item, limits=item,
        **dict.fromkeys(extra, item),
    )  # fmt: skip
    vectors = Vectors(builder, shape, index)
    arguments: dict[str, Any] = {argument.name: argument for argument in emitted.args}
    _sum_places(vectors, arguments, plus)
    return emitted


def _sum_places(vectors: Vectors, given: dict[str, Any], plus: Callable[..., Any]) -> None:
    rows = [row * vectors.shape.lanes for row in range(vectors.shape.rows)]
    slopes = [vectors.load(given["slopes"], row) for row in rows]
    offsets = [vectors.load(given["offsets"], row) for row in rows]
    sums = [vectors.load(given[name], row) for name in ("forward", "backward") for row in rows]
    epsilons = [vectors.load(given["epsilons"], row) for row in rows if "epsilons" in given]
    with vectors.for_range(given["begin"], given["end"], carried=sums) as loop:
        place = vectors.load_one(given["places"], loop.index)
        query, high, low = (
            vectors.splat(vectors.load_one(given[name], loop.index))
            for name in ("queries", "highs", "lows")
        )
        forward, backward = [], []
        for number, row in enumerate(rows):
            slope, offset = slopes[number], offsets[number]
            point, upper, lower = (
                vectors.load(vectors.at(given[name], place), row)
                for name in ("points", "uppers", "lowers")
            )
            value = _fused_sub(vectors, point, slope, offset)
            excess = _excess(vectors, vectors.sub(value, high), vectors.sub(low, value))
            extra = epsilons[number : number + 1]
            forward.append(plus(vectors, loop.values[number], excess, *extra))
            raised = vectors.add(query, offset)
            over = _fused_sub_from(vectors, raised, upper, slope)
            excess = _excess(vectors, over, _fused_sub(vectors, lower, slope, raised))
            backward.append(plus(vectors, loop.values[len(rows) + number], excess, *extra))
        loop.carry(forward + backward)
    _finish(vectors, given, rows, loop.values)


def _finish(vectors: Vectors, given: dict[str, Any], rows: list[int], sums: list[Any]) -> None:
    builder, found = vectors.builder, ir.Constant(BIT, 0)
    for number, row in enumerate(rows):
        forward, backward = sums[number], sums[len(rows) + number]
        vectors.store(forward, given["forward"], row)
        vectors.store(backward, given["backward"], row)
        most = vectors.greatest(forward, backward)
        alive = vectors.any_below(most, vectors.load(given["limits"], row))
        found = builder.or_(found, alive)
    builder.ret(found)


def _excess(vectors: Vectors, over: Any, under: Any) -> Any:
    # `greatest` may compare floats as integers of the same bits, which orders negative numbers
    # wrongly. The result is right all the same, because at most one of the two floats is positive.
    # A positive float or zero is greater than a negative float also as an integer.
    return vectors.greatest(vectors.greatest(over, under), vectors.every(0.0))


def _fused_sub(vectors: Vectors, a: Any, b: Any, c: Any) -> Any:
    builder: Any = vectors.builder
    return builder.fsub(builder.fmul(a, b, flags=_FUSE), c, flags=_FUSE)


def _fused_sub_from(vectors: Vectors, c: Any, a: Any, b: Any) -> Any:
    builder: Any = vectors.builder
    return builder.fsub(c, builder.fmul(a, b, flags=_FUSE), flags=_FUSE)


def _plus_square(vectors: Vectors, total: Any, excess: Any) -> Any:
    builder: Any = vectors.builder
    return builder.fadd(total, builder.fmul(excess, excess, flags=_FUSE), flags=_FUSE)


def _plus_one(vectors: Vectors, total: Any, excess: Any, epsilon: Any) -> Any:
    builder: Any = vectors.builder
    beyond = builder.fcmp_ordered(">", excess, epsilon)
    return builder.fadd(total, builder.select(beyond, vectors.every(1.0), vectors.every(0.0)))


def emit_highest(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``target[i] = max(source[i], source[i + gap])`` for i < `count`, in whole vectors.

    Up to ``lanes - 1`` elements after `count` are written too.
    """
    return _slide(module, shape, index, "highest", Vectors.greater)


def emit_lowest(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``target[i] = min(source[i], source[i + gap])`` for i < `count`, in whole vectors.

    Up to ``lanes - 1`` elements after `count` are written too.
    """
    return _slide(module, shape, index, "lowest", Vectors.lesser)


def emit_halfway(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``target[i] = (source[i] + source[i + gap]) / 2`` for i < `count`, in whole vectors.

    Up to ``lanes - 1`` elements after `count` are written too.
    """

    def middle(vectors: Vectors, a: Any, b: Any) -> Any:
        return vectors.mul(vectors.add(a, b), vectors.every(0.5))

    return _slide(module, shape, index, "halfway", middle)


def _slide(
    module: ir.Module, shape: Shape, index: ir.IntType, name: str, combine: Callable[..., Any]
) -> ir.Function:
    # Source and target may be the same array: each element is read before it is overwritten.
    item = shape.number.pointer
    emitted, builder = function(
        module, f"{name}_{shape.name}", VOID, source=item, target=item, gap=index, count=index
    )
    vectors = Vectors(builder, shape, index)
    source, target, gap, count = emitted.args
    with vectors.for_range(0, count, shape.lanes) as loop:
        here = vectors.load(source, loop.index)
        there = vectors.load(source, builder.add(loop.index, gap))
        vectors.store(combine(vectors, here, there), target, loop.index)
    builder.ret_void()
    return emitted
