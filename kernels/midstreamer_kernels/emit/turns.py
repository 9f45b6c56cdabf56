"""One anti-diagonal of the cost matrix, and from where each of its cells was reached.

The cells of a diagonal do not depend on each other. Beside its cost each leaves two bits: whether
the step came straight (from the diagonal neighbour), and if not, whether from above. A vector
leaves a byte of each kind, so that a whole matrix takes two bits a cell instead of 32 or 64.

Of equal costs the diagonal neighbour is taken first, then the one above, then the one to the left.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.values import VOID, Shape, Vectors, function

LANES = 8  # a byte of bits; wider and narrower registers get them as parts or pairs


def emit_turns(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Write ``turns(older, newer, rows, columns, target, straight, upward, count)``.

    Cell c of the diagonal lies in ``target[c + 1]``, its neighbours in ``older[c]`` (diagonal),
    ``newer[c]`` (above) and ``newer[c + 1]`` (left); it compares ``rows[c]`` with ``columns[c]``.
    The places before and after the cells become infinite. All are read and written in whole
    vectors: up to ``LANES`` elements more than `count`.
    """
    number, byte = shape.number, ir.IntType(8)
    emitted, builder = function(
        module, f"turns_{shape.name}", VOID,
        older=number.pointer, newer=number.pointer, rows=number.pointer, columns=number.pointer,
        target=number.pointer, straight=byte.as_pointer(), upward=byte.as_pointer(), count=index,
    )  # fmt: skip
    older, newer, rows, columns, target, straight, upward, count = emitted.args
    vec = Vectors(builder, shape, index)
    with vec.for_range(0, count, LANES) as loop:
        cell = loop.index
        beside = builder.add(cell, vec.constant(1))
        diagonal, up = vec.load(older, cell), vec.load(newer, cell)
        left = vec.load(newer, beside)
        cost = vec.dtw_cell(vec.load(rows, cell), vec.load(columns, cell), left, up, diagonal)
        vec.store(cost, target, beside)
        least = builder.fcmp_ordered("<=", diagonal, vec.lesser(up, left))
        place = builder.lshr(cell, vec.constant(LANES.bit_length() - 1))
        for bits, plane in ((least, straight), (builder.fcmp_ordered("<=", up, left), upward)):
            builder.store(builder.bitcast(bits, byte), builder.gep(plane, [place]))
    outside = number.type(float("inf"))
    vec.store_one(outside, target)
    vec.store_one(outside, target, builder.add(count, vec.constant(1)))
    builder.ret_void()
    return emitted
