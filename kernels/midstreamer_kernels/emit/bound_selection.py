"""Selection of the lower bounds that are within a limit.

One instruction compares a whole vector of bounds with the limit. Only the bounds within the limit
are then handled one by one. So a bound beyond the limit takes a fifth of a processor cycle. In a
loop over single bounds it would take three cycles.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import BIT, Shape, Vectors, function


def emit_choose(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``choose(bounds, count, limit, chosen)``, which returns the number of chosen bounds.

    bounds : `count` elements, where `count` is a multiple of `lanes`
    chosen : receives the indices of the bounds that do not exceed `limit`, ascending
    """
    number = shape.number
    emitted, builder = function(
        module, f"choose_{shape.name}", index,
        bounds=number.pointer, count=index, limit=number.type, chosen=ir.PointerType(index),
    )  # fmt: skip
    vec = Vectors(builder, shape, index)
    bounds, count, limit, chosen = emitted.args
    within = vec.splat(limit)
    with vec.for_range(0, count, shape.lanes, carried=[index(0)]) as part:
        passed = builder.fcmp_ordered("<=", vec.load(bounds, part.index), within)
        mask = builder.bitcast(passed, ir.IntType(shape.lanes))
        found = part.values[0]
        # Each iteration handles the lowest bit still set in the mask and clears it.
        with vec.for_range(0, _count_bits(builder, mask, index), carried=[mask, found]) as hit:
            left, place = hit.values
            lane = builder.zext(builder.cttz(left, BIT(1)), index)
            target = builder.gep(chosen, [place])
            builder.store(builder.add(part.index, lane), target)
            one = left.type(1)
            hit.carry([builder.and_(left, builder.sub(left, one)), builder.add(place, index(1))])
        part.carry([hit.values[1]])
    builder.ret(part.values[0])
    return emitted


def _count_bits(builder: ir.IRBuilder, mask: ir.Value, index: ir.IntType) -> ir.Value:
    return builder.zext(builder.ctpop(mask), index)
