"""The LCSS cell on SIMD vectors, as a numba intrinsic.

An intrinsic is needed, because numba does not vectorise a Python loop that computes this cell for
all lanes.

A vector of `LANES` float64 numbers is one value of the LLVM type ``<LANES x double>``. LLVM maps it
to two AVX-512 registers, four of AVX2 or eight of SSE2. Only subtraction, addition and comparison
are used, on each lane separately, so all widths give the same bits.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types

LANES = 16  # windows compared at once, enough to hide the latency of an addition

# The type is Any, because numba's annotation wrongly demands its typing context in every call.
intrinsic: Any = extending.intrinsic

_DOUBLE = ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, LANES)


class _Block:
    """Emits the vector instructions of one call of an intrinsic."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    def place(self, array_type: Any, array: Any, vector_index: Any) -> Any:
        """Return the pointer to vector number `vector_index` of a contiguous float64 array."""
        data = self.context.make_array(array_type)(self.context, self.builder, value=array).data
        vectors = self.builder.bitcast(data, ir.PointerType(_VECTOR))
        return self.builder.gep(vectors, [vector_index])

    def load(self, pointer: Any) -> Any:
        # The load assumes an alignment of 8 bytes only: numba aligns arrays to 32 bytes at most,
        # and slices to 8.
        return self.builder.load(pointer, align=8)

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, pointer, align=8)

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def most(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)


@intrinsic
def lcss_cell(
    typing_context: Any,
    cells: Any,
    slot: Any,
    windows: Any,
    column: Any,
    value: Any,
    epsilon: Any,
) -> Any:
    """Compute one cell of the LCSS matrix in every lane, in place in ``cells[slot]``.

    Before the call ``cells[slot]`` holds the diagonal neighbour, ``cells[slot + 1]`` the cell above
    and ``cells[slot - 1]`` the cell to the left. `value` matches the points in ``windows[column]``
    that differ by at most `epsilon`. `slot` and `column` count whole vectors of `LANES` float64.
    """
    signature = types.void(cells, slot, windows, column, value, epsilon)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _Block(context, builder)
        here = block.place(cells, arguments[0], arguments[1])
        one = ir.Constant(arguments[1].type, 1)
        diagonal = block.load(here)
        up = block.load(builder.gep(here, [one]))
        left = block.load(builder.gep(here, [builder.neg(one)]))
        point = block.load(block.place(windows, arguments[2], arguments[3]))
        step = builder.fsub(block.splat(arguments[4]), point)
        gap = block.most(step, builder.fneg(step))
        ones, zeros = block.splat(_DOUBLE(1.0)), block.splat(_DOUBLE(0.0))
        matches = builder.fcmp_ordered("<=", gap, block.splat(arguments[5]))
        longer = builder.fadd(diagonal, builder.select(matches, ones, zeros))
        block.store(block.most(left, block.most(up, longer)), here)
        return context.get_dummy_value()

    return signature, emit
