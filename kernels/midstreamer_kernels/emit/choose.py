"""Of many bounds those within a limit: a comparison for a whole vector, and work only for hits.

Where few pass, asking row by row costs three cycles for each that does not; here it is a fifth of
one.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.values import BIT, Shape, Vectors, function


def emit_choose(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Write ``choose(bounds, count, limit, chosen)``, which returns how many it chose.

    bounds : `count` elements, a multiple of `lanes`
    chosen : receives the ascending places of the bounds that do not exceed `limit`
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
        # Each turn takes the lowest bit that is left.
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
