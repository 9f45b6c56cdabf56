"""Lower bounds of many windows at once: lane l is the window that begins l windows later.

Since neighbouring windows overlap, the points that they have at one place lie side by side in the
history: a vector of windows is read with one load and nothing is transposed. Each window has its
own scale, so a point x is normalised on the way as ``x * slope - offset``.

Two bounds are summed in one go (Keogh and Ratanamahatana 2005). Forward: how far the window's
points lie outside of the query's envelope. Backward: how far the query's points lie outside of the
window's envelope, which is read from the envelope of the history around it. A place is a point, or
the mean of several: the excess of a mean is at most the mean of the excesses, whose square is at
most the mean of their squares (Yi and Faloutsos 2000).

What comes out is compared with room for rounding, so the compiler may fuse a multiplication with
an addition where the processor can: only here, for nothing of it reaches an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from midstreamer_kernels.emit.values import BIT, VOID, Shape, Vectors, function

_FUSE = ("contract",)


def emit_unmatched(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit as `emit_keogh` what counts the excesses above each window's element of `epsilons`."""
    return _emit_sums(module, shape, index, "unmatched", _plus_one, ("epsilons",))


def emit_keogh(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the bounds of ``lanes * rows`` windows, summed over places.

    Adds the squared excesses at the places [begin, end) to `forward` and `backward`, and returns
    whether the greater of the two is within `limits` for any window. ``places[t]`` says how far
    after a window's own element of `points`, `uppers` and `lowers` its element for place t lies.
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
    # Compared as integers even where negative: at most one of the two is positive, a positive one
    # wins over a negative one, and zero over both.
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
    """Emit ``target[i] = max(source[i], source[i + gap])`` for i below `count`, and somewhat on."""
    return _slide(module, shape, index, "highest", Vectors.greater)


def emit_lowest(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``target[i] = min(source[i], source[i + gap])`` for i below `count`, and somewhat on."""
    return _slide(module, shape, index, "lowest", Vectors.lesser)


def emit_halfway(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``target[i] = (source[i] + source[i + gap]) / 2`` likewise."""

    def middle(vectors: Vectors, a: Any, b: Any) -> Any:
        return vectors.mul(vectors.add(a, b), vectors.every(0.5))

    return _slide(module, shape, index, "halfway", middle)


def _slide(
    module: ir.Module, shape: Shape, index: ir.IntType, name: str, combine: Callable[..., Any]
) -> ir.Function:
    # Source and target may be the same: every element is read before a later one is written.
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
