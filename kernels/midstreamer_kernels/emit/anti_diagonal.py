"""One anti-diagonal of the DTW cost matrix, with the step that led to each of its cells.

The cells of an anti-diagonal do not depend on each other. The cost of a cell is needed only for the
next two anti-diagonals. What is stored for each cell are two bits, which describe the step to it.
The first bit says whether the path came from the diagonal neighbour. If it did not, the second bit
says whether the path came from above. A vector of 8 cells stores its first bits in one byte and its
second bits in another byte. So the steps of a whole matrix take two bits per cell, where the costs
of a whole matrix would take 32 or 64.

A path comes from the neighbour with the least cost. If costs are equal, the diagonal neighbour is
preferred, then the cell above, then the cell to the left.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import VOID, Shape, Vectors, function

# Cells per vector, for registers of any width. Two bits are stored for each cell. The first bits of
# 8 cells fill exactly one byte, and so do the second bits.
LANES = 8


def emit_turns(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``turns(older, newer, rows, columns, target, straight, upward, count)``.

    The function computes the `count` cells of one anti-diagonal. `newer` is the anti-diagonal
    before it, and `older` is the anti-diagonal before `newer`. Cell c compares ``rows[c]``
    with ``columns[c]`` and is written to ``target[c + 1]``. Its neighbours are ``older[c]``
    (diagonal), ``newer[c]`` (above) and ``newer[c + 1]`` (left). The element of `target` before the
    first cell and the one after the last cell become infinite. `straight` receives the first bit of
    each cell: 1 if the path came from the diagonal neighbour. `upward` receives the second bit: 1
    if the cell above costs at most as much as the cell to the left. Arrays are read and written in
    whole vectors, up to ``LANES`` elements beyond `count`.
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
