"""Transposition of table rows into the lanes of SIMD vectors.

A register has W lanes. So the code takes W rows at a time, and loads W consecutive points of each
row into one register. These W registers are a square of points, which is transposed in registers.
The transposition takes log2(W) rounds. One round takes W instructions, or a few more. Copying the
square point by point would take W * W loads and as many stores. For 16 rows, such copying took four
fifths as long as the DTW comparison of these rows with a band of 6.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import VOID, Shape, Vectors, function

LINE_BYTES = 64  # bytes of a cache line


def emit_gather(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``gather(rows, starts, m, block)``, which copies one row into each lane of a block.

    rows : the elements of all rows
    starts : `lanes` indices: the element of `rows` where the row of each lane begins
    m : number of points to read from each row
    block : receives point t of lane l at ``t * lanes + l``
    """
    emitted, builder = function(
        module, f"gather_{shape.name}", VOID,
        rows=shape.number.pointer, starts=ir.PointerType(index), m=index,
        block=shape.number.pointer,
    )  # fmt: skip
    width = shape.lanes // 2  # lanes of one register: a vector has two registers
    square = Vectors(builder, Shape(shape.number, width, 1), index)
    rows, starts, m, block = emitted.args
    whole = builder.sub(m, builder.srem(m, square.constant(width)))
    for first in range(0, shape.lanes, width):
        lanes = range(first, first + width)
        places = [builder.load(builder.gep(starts, [index(lane)])) for lane in lanes]
        sources = [square.at(rows, place) for place in places]
        with square.for_range(0, whole, width) as tile:
            points = [square.load(source, tile.index) for source in sources]
            for t, vector in enumerate(square.transposed(points)):
                row = builder.add(tile.index, index(t))
                place = builder.add(builder.mul(row, index(shape.lanes)), index(first))
                square.store(vector, block, place)
        with square.for_range(whole, m) as rest:
            row = builder.mul(rest.index, index(shape.lanes))
            for lane, source in zip(lanes, sources, strict=True):
                point = square.load_one(source, rest.index)
                square.store_one(point, block, builder.add(row, index(lane)))
    builder.ret_void()
    return emitted


def emit_fetch(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``fetch(row, m)``, which prefetches the m elements of a row into the CPU caches."""
    byte, word = ir.IntType(8), ir.IntType(32)
    emitted, builder = function(
        module, f"fetch_{shape.name}", VOID, row=ir.PointerType(byte), m=index
    )
    parameters = [ir.PointerType(byte), word, word, word]
    ask = module.globals.get("llvm.prefetch.p0") or ir.Function(
        module, ir.FunctionType(VOID, parameters), "llvm.prefetch.p0"
    )
    row, m = emitted.args
    vectors = Vectors(builder, shape, index)
    size = builder.mul(m, index(shape.number.bytes))
    with vectors.for_range(0, size, LINE_BYTES) as line:
        # The last arguments of the prefetch: 0 means read, 3 means greatest locality, 1 means data
        # cache.
        builder.call(ask, [builder.gep(row, [line.index]), word(0), word(3), word(1)])
    builder.ret_void()
    return emitted
