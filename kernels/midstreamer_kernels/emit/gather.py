"""Rows of a table read into lanes: what lies side by side comes to lie one below the other.

Eight rows and eight of their points (with vectors of eight) are a square, transposed in registers:
the vectors of the first and of the second half are interleaved, and that again, until each vector
holds one point of all rows. For a square of W rows that is log2(W) rounds of W instructions or a
few more, instead of W * W loads and stores of single numbers.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.values import VOID, Shape, Vectors, function


def emit_gather(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Write ``gather(rows, starts, m, block)``.

    rows : elements
    starts : `lanes` indices: where in `rows` the row of each lane begins
    m : how many points to read of each
    block : receives point t of lane l at ``t * lanes + l``
    """
    emitted, builder = function(
        module, f"gather_{shape.name}", VOID,
        rows=shape.number.pointer, starts=ir.PointerType(index), m=index,
        block=shape.number.pointer,
    )  # fmt: skip
    width = shape.lanes // 2  # of one register: see `native.lanes`
    square = Vectors(builder, Shape(shape.number, width, 1), index)
    rows, starts, m, block = emitted.args
    whole = builder.sub(m, builder.srem(m, square.constant(width)))
    for first in range(0, shape.lanes, width):
        lanes = range(first, first + width)
        places = [builder.load(builder.gep(starts, [index(lane)])) for lane in lanes]
        sources = [square.at(rows, place) for place in places]
        with square.for_range(0, whole, width) as tile:
            points = [square.load(source, tile.index) for source in sources]
            for t, vector in enumerate(_transposed(square, points)):
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


def _transposed(square: Vectors, rows: list[ir.Value]) -> list[ir.Value]:
    """Turn as many vectors as one has lanes."""
    half = len(rows) // 2
    for _ in range(half.bit_length()):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [part for a, b in pairs for part in _interleaved(square, a, b)]
    return rows


def _interleaved(square: Vectors, a: ir.Value, b: ir.Value) -> list[ir.Value]:
    """Return ``a[0], b[0], a[1], b[1] ...`` as two vectors."""
    width = square.shape.lanes
    order = [lane + source for lane in range(width) for source in (0, width)]
    places = [ir.Constant(_places(width), part) for part in (order[:width], order[width:])]
    return [square.builder.shuffle_vector(a, b, place) for place in places]


def _places(width: int) -> ir.VectorType:
    return ir.VectorType(ir.IntType(32), width)
