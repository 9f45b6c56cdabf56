"""Preparation of the windows of a history for lower bounds and for the lanes of a comparison.

Points are stored in float32 or float64 (the number type of the shape). Normalisation is computed in
float64. Reading beyond the end of a history would be a memory fault. Therefore a first loop handles
the whole vectors, and a second loop handles the remaining elements one by one. `_each` emits both
loops from the same body: for the second loop it uses vectors with one lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import (
    FLOAT32,
    FLOAT64,
    VOID,
    Shape,
    Vectors,
    function,
)

CLIP = 1e15  # float32 values are clipped to +-CLIP, so that a million squares have a finite sum

_DOUBLE, _SINGLE = FLOAT64.type, FLOAT32.pointer
_DOUBLES = FLOAT64.pointer

# A function that emits the body of a loop. Its arguments: the vectors, the index of the element to
# write, and the index of the point to read in the history.
Body = Callable[[Vectors, ir.Value, ir.Value], None]


def emit_value(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``value(values)``, which returns the element at the address `values` as float64."""
    emitted, builder = function(
        module, f"value_{shape.number.name}", _DOUBLE, values=shape.number.pointer
    )
    builder.ret(_converted(builder, builder.load(emitted.args[0]), _DOUBLE))
    return emitted


def emit_farthest(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``farthest``: the greatest ``abs(value - origin)`` of `count` values, as float64."""
    emitted, builder = function(
        module, f"farthest_{shape.name}", _DOUBLE,
        values=shape.number.pointer, count=index, origin=_DOUBLE,
    )  # fmt: skip
    values, count, origin = emitted.args
    vectors = Vectors(builder, shape, index)
    whole = _whole(vectors, count)
    ends = [vectors.every(float("-inf")), vectors.every(float("inf"))]
    with vectors.for_range(0, whole, shape.lanes, carried=ends) as loop:
        value = vectors.load(values, loop.index)
        loop.carry(_stretched(builder, loop.values, [value, value]))
    ends = [builder.extract_element(end, ir.IntType(32)(0)) for end in loop.values]
    for lane in range(1, shape.lanes):
        more = [builder.extract_element(end, ir.IntType(32)(lane)) for end in loop.values]
        ends = _stretched(builder, ends, more)
    with vectors.for_range(whole, count, carried=ends) as rest:
        value = vectors.load_one(values, rest.index)
        rest.carry(_stretched(builder, rest.values, [value, value]))
    highest, lowest = (_converted(builder, end, _DOUBLE) for end in rest.values)
    above, below = builder.fsub(highest, origin), builder.fsub(origin, lowest)
    builder.ret(builder.select(builder.fcmp_ordered(">", above, below), above, below))
    return emitted


def _stretched(builder: Any, ends: list[Any], more: list[Any]) -> list[Any]:
    higher = builder.fcmp_ordered(">", more[0], ends[0])
    lower = builder.fcmp_ordered("<", more[1], ends[1])
    return [builder.select(higher, more[0], ends[0]), builder.select(lower, more[1], ends[1])]


def emit_narrow(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``points[t] = (values[t] - origin) * factor`` as float32, clipped to +-`CLIP`."""
    emitted, builder = function(
        module, f"narrow_{shape.name}", VOID,
        values=shape.number.pointer, points=_SINGLE, count=index, origin=_DOUBLE, factor=_DOUBLE,
    )  # fmt: skip
    values, points, count, origin, factor = emitted.args

    def body(vectors: Vectors, element: ir.Value, place: ir.Value) -> None:
        wide, narrow = _both(vectors)
        value = _converted(builder, vectors.load(values, place), wide.shape.vector)
        value = wide.mul(wide.sub(value, wide.splat(origin)), wide.splat(factor))
        narrow.store(_clipped(wide, value), points, element)

    _each(builder, shape, index, count, index(1), body)
    builder.ret_void()
    return emitted


def emit_scales(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the slope, offset and noise of `count` windows that begin `step` points apart.

    Slope and offset z-normalise a window: a point is stored as ``x = (value - origin) / most``, and
    its z-normal value is ``x * slope - offset``. So ``slope = scale * most``, and
    ``offset = ((first - origin) + shift) * scale``, where `first` is the window's first value. The
    noise is the rounding error allowed for a bound: ``slope * noise_slope + noise``. A window whose
    slope exceeds `blind` is too flat for a bound: it gets slope and offset 0 and infinite noise.
    """
    emitted, builder = function(
        module, f"scales_{shape.name}", VOID,
        values=shape.number.pointer, shift=_DOUBLES, scale=_DOUBLES, step=index, count=index,
        origin=_DOUBLE, most=_DOUBLE, blind=_DOUBLE, noise_slope=_DOUBLE, noise=_DOUBLE,
        slopes=_SINGLE, offsets=_SINGLE, noises=_SINGLE,
    )  # fmt: skip
    given: Any = {argument.name: argument for argument in emitted.args}

    def body(vectors: Vectors, element: ir.Value, place: ir.Value) -> None:
        wide, narrow = _both(vectors)
        scale, shift = wide.load(given["scale"], place), wide.load(given["shift"], place)
        first = _converted(builder, vectors.load(given["values"], place), wide.shape.vector)
        slope = wide.mul(scale, wide.splat(given["most"]))
        from_origin = wide.sub(first, wide.splat(given["origin"]))
        offset = wide.mul(wide.add(from_origin, shift), scale)
        noise = wide.mul(slope, wide.splat(given["noise_slope"]))
        noise = wide.add(noise, wide.splat(given["noise"]))
        seen = builder.fcmp_ordered("<=", slope, wide.splat(given["blind"]))
        for name, value, otherwise in (
            ("slopes", slope, 0.0), ("offsets", offset, 0.0), ("noises", noise, float("inf"))
        ):  # fmt: skip
            chosen = builder.select(seen, value, wide.every(otherwise))
            narrow.store(_converted(builder, chosen, narrow.shape.vector), given[name], element)

    _each(builder, shape, index, given["count"], given["step"], body)
    builder.ret_void()
    return emitted


def emit_corners(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the first term of both LB_Keogh bounds: the costs of the first and last pair of points.

    Every warping path has these two pairs. The costs are multiplied by `first_share` and
    `last_share`; a share of 0 leaves a pair out. Their sum is written to `forward` and to
    `backward`. `firsts` points to the first point of the first window, `lasts` to its last point.
    Windows are `stride` points apart.
    """
    emitted, builder = function(
        module, f"corners_{shape.name}", VOID,
        firsts=_SINGLE, lasts=_SINGLE, stride=index, count=index,
        first=FLOAT32.type, last=FLOAT32.type, first_share=FLOAT32.type, last_share=FLOAT32.type,
        slopes=_SINGLE, offsets=_SINGLE, forward=_SINGLE, backward=_SINGLE,
    )  # fmt: skip
    given: Any = {argument.name: argument for argument in emitted.args}

    def body(vectors: Vectors, element: ir.Value, place: ir.Value) -> None:
        slope = vectors.load(given["slopes"], element)
        offset = vectors.load(given["offsets"], element)
        costs = []
        for end in ("first", "last"):
            value = vectors.mul(vectors.load(given[f"{end}s"], place), slope)
            value = vectors.sub(vectors.sub(value, offset), vectors.splat(given[end]))
            value = vectors.mul(value, value)
            costs.append(vectors.mul(value, vectors.splat(given[f"{end}_share"])))
        cost = vectors.add(*costs)
        vectors.store(cost, given["forward"], element)
        vectors.store(cost, given["backward"], element)

    _each(builder, shape, index, given["count"], given["stride"], body)
    builder.ret_void()
    return emitted


def emit_deal(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``target[t] = source[t * stride]`` for t < `count`."""
    item = shape.number.pointer
    emitted, builder = function(
        module, f"deal_{shape.name}", VOID, source=item, target=item, stride=index, count=index
    )
    source, target, stride, count = emitted.args
    vectors = Vectors(builder, shape, index)
    with vectors.for_range(0, count) as loop:
        card = vectors.load_one(source, builder.mul(loop.index, stride))
        vectors.store_one(card, target, loop.index)
    builder.ret_void()
    return emitted


def emit_place(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the copy of a window into one lane: ``((value - origin) - shift) * scale``, float64.

    Point t goes to ``lane[t * lanes]``.
    """
    emitted, builder = function(
        module, f"place_{shape.name}", VOID,
        values=shape.number.pointer, count=index, origin=_DOUBLE, shift=_DOUBLE, scale=_DOUBLE,
        lane=_DOUBLES, lanes=index,
    )  # fmt: skip
    values, count, origin, shift, scale, lane, lanes = emitted.args
    vectors = Vectors(builder, shape, index)
    with vectors.for_range(0, count) as loop:
        value = _converted(builder, vectors.load_one(values, loop.index), _DOUBLE)
        value = builder.fmul(builder.fsub(builder.fsub(value, origin), shift), scale)
        vectors.store_one(value, lane, builder.mul(loop.index, lanes))
    builder.ret_void()
    return emitted


def _each(
    builder: Any, shape: Shape, index: ir.IntType, count: ir.Value, step: ir.Value, body: Body
) -> None:
    """Emit `body` for `count` elements that are `step` points apart in the history.

    Whole vectors are used if `step` is 1; otherwise elements are handled one by one.
    """
    vectors = Vectors(builder, shape, index)
    single = Vectors(builder, Shape(shape.number, 1, 1, shape.integers), index)
    beside = builder.icmp_signed("==", step, index(1))
    whole = builder.select(beside, _whole(vectors, count), index(0))
    with vectors.for_range(0, whole, shape.lanes) as loop:
        body(vectors, loop.index, loop.index)
    with single.for_range(whole, count) as rest:
        body(single, rest.index, builder.mul(rest.index, step))


def _whole(vectors: Vectors, count: ir.Value) -> ir.Value:
    lanes = vectors.constant(vectors.shape.lanes)
    return vectors.builder.sub(count, vectors.builder.srem(count, lanes))


def _both(vectors: Vectors) -> tuple[Vectors, Vectors]:
    """Return two `Vectors`, for float64 and for float32, with as many lanes as `vectors`."""
    lanes = vectors.shape.lanes
    return (
        Vectors(vectors.builder, Shape(FLOAT64, lanes, 1), vectors.index),
        Vectors(vectors.builder, Shape(FLOAT32, lanes, 1), vectors.index),
    )


def _clipped(wide: Vectors, value: Any) -> Any:
    """Return a float64 vector converted to float32 and clipped to +-`CLIP`."""
    value = wide.lesser(value, wide.every(CLIP))
    value = wide.greater(value, wide.every(-CLIP))
    return wide.builder.fptrunc(value, ir.VectorType(FLOAT32.type, wide.shape.lanes))


def _converted(builder: Any, value: Any, target: Any) -> Any:
    """Return a number or vector converted to the float type of `target`."""
    if value.type == target:
        return value
    element = getattr(target, "element", target)
    return (builder.fpext if element == _DOUBLE else builder.fptrunc)(value, target)
