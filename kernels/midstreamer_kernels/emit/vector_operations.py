"""The SIMD vector operations in LLVM IR from which the inner loops are built.

A `Shape` gives the number type, the lanes of a vector and the number of vectors kept in registers.
`Vectors` emits instructions for a shape. Every operation works on each lane separately and rounds
once, so all shapes give the same bits. Compilers map an LLVM vector to one register if its lanes
fit, otherwise to several registers.

Costs are sums of squares: never negative, never NaN, at most +inf. The order of such floats does
not change if their bits are read as integers. On most processors the minimum of two integers is at
least as fast as the minimum of two floats. Where there is no such integer instruction (64 bits
before AVX-512, and in WebAssembly), `Shape.integers` is false and floats are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llvmlite import ir

_I32 = ir.IntType(32)
BIT = ir.IntType(1)
VOID = ir.VoidType()


@dataclass(frozen=True)
class Number:
    """A number type with its size in bytes, its LLVM type and the integer type of its width."""

    name: str
    bytes: int
    type: ir.Type
    bits_type: ir.IntType

    @property
    def pointer(self) -> ir.PointerType:
        """The LLVM type of a pointer to one element."""
        return ir.PointerType(self.type)


FLOAT32 = Number("float32", 4, ir.FloatType(), ir.IntType(32))
FLOAT64 = Number("float64", 8, ir.DoubleType(), ir.IntType(64))


@dataclass(frozen=True)
class Shape:
    """The shape of an emitted loop: number type, lanes per vector, vectors kept in registers."""

    number: Number
    lanes: int
    rows: int
    integers: bool = True
    """Whether costs are compared by reading the bits of the floats as integers."""
    stores_last: bool = False
    """Whether an iteration of a loop stores after all its loads.

    Needed for compilers that do not move a load across a store.
    """

    @property
    def name(self) -> str:
        """The suffix for names of functions with this shape."""
        least = "i" if self.integers else "f"
        stores = "l" if self.stores_last else ""
        return f"{self.number.name}_{self.lanes}x{self.rows}{least}{stores}"

    @property
    def vector(self) -> ir.VectorType:
        """The LLVM type of one vector."""
        return ir.VectorType(self.number.type, self.lanes)


def function(
    module: ir.Module, name: str, result: ir.Type, **parameters: ir.Type
) -> tuple[ir.Function, ir.IRBuilder]:
    """Add an internal function to `module`; return the function and a builder for its body.

    `parameters` maps the argument names to their LLVM types.
    """
    signature = ir.FunctionType(result, list(parameters.values()))
    added = ir.Function(module, signature, name)
    added.linkage = "internal"
    for argument, label in zip(added.args, parameters, strict=True):
        argument.name = label
    return added, ir.IRBuilder(added.append_basic_block("entry"))


@dataclass
class Loop:
    """A loop that is being emitted.

    `index` is the loop counter. `values` are carried from one iteration to the next; after the
    loop they are the final values.
    """

    index: ir.Value
    values: list[ir.Value]
    following: list[ir.Value] = field(default_factory=list)

    def carry(self, values: Sequence[ir.Value]) -> None:
        """Set the values for the next iteration, in the order of the attribute `values`."""
        self.following = list(values)


class Vectors:
    """Emits instructions on vectors of one shape at the position of `builder`."""

    def __init__(self, builder: ir.IRBuilder, shape: Shape, index: ir.IntType) -> None:
        self.builder, self.shape, self.index = builder, shape, index
        self._bits = ir.VectorType(shape.number.bits_type, shape.lanes)

    # Numbers

    def constant(self, value: int) -> ir.Constant:
        """Return an integer constant of the index type."""
        return ir.Constant(self.index, value)

    def infinite(self) -> ir.Value:
        """Return +inf in every lane, the cost of a cell outside of the matrix or band."""
        return self.every(float("inf"))

    def every(self, value: float) -> ir.Constant:
        """Return the constant `value` in every lane."""
        return ir.Constant(self.shape.vector, [value] * self.shape.lanes)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """Return the LLVM value `scalar` in every lane."""
        undefined = ir.Constant(self.shape.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, _I32(0))
        return self._shuffle(first, undefined, [0] * self.shape.lanes)

    # Memory

    def at(self, pointer: ir.Value, offset: ir.Value | int = 0) -> ir.Value:
        """Return the pointer to the element `offset` elements after `pointer`."""
        step = self.constant(offset) if isinstance(offset, int) else offset
        return self.builder.gep(pointer, [step], inbounds=True)

    def load(
        self, pointer: ir.Value, offset: ir.Value | int = 0, *, aligned: bool = False
    ) -> ir.Value:
        """Load the vector that begins `offset` elements after `pointer`.

        `aligned` promises that the address is aligned to a whole vector.
        """
        return self.builder.load(self._place(pointer, offset), align=self._alignment(aligned))

    def store(
        self,
        value: ir.Value,
        pointer: ir.Value,
        offset: ir.Value | int = 0,
        *,
        aligned: bool = False,
    ) -> None:
        """Store the vector `value` at `offset` elements after `pointer`.

        `aligned` promises that the address is aligned to a whole vector.
        """
        self.builder.store(value, self._place(pointer, offset), align=self._alignment(aligned))

    def load_one(self, pointer: ir.Value, offset: ir.Value | int = 0) -> ir.Value:
        """Load the one element at `offset` elements after `pointer`."""
        return self.builder.load(self.at(pointer, offset))

    def store_one(self, value: ir.Value, pointer: ir.Value, offset: ir.Value | int = 0) -> None:
        """Store one element at `offset` elements after `pointer`."""
        self.builder.store(value, self.at(pointer, offset))

    def times_lanes(self, count: ir.Value) -> ir.Value:
        """Return the number of elements in `count` vectors."""
        return self.builder.mul(count, self.constant(self.shape.lanes))

    def _alignment(self, aligned: bool) -> int:
        return self.shape.number.bytes * (self.shape.lanes if aligned else 1)

    def _place(self, pointer: ir.Value, offset: ir.Value | int) -> ir.Value:
        return self.builder.bitcast(self.at(pointer, offset), ir.PointerType(self.shape.vector))

    # Arithmetic: each operation rounds once, and none is fused or reordered

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return ``a - b``."""
        return self.builder.fsub(a, b)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return ``a + b``."""
        return self.builder.fadd(a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return ``a * b``."""
        return self.builder.fmul(a, b)

    def least(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the lesser of two costs (not negative, not NaN)."""
        return self._choose("<", a, b)

    def greatest(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the greater of two costs (not negative, not NaN)."""
        return self._choose(">", a, b)

    def lesser(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the lesser of any two numbers that are not NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def greater(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the greater of any two numbers that are not NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def _choose(self, order: str, a: ir.Value, b: ir.Value) -> ir.Value:
        build = self.builder
        if not self.shape.integers:
            return build.select(build.fcmp_ordered(order, a, b), a, b)
        first, second = build.bitcast(a, self._bits), build.bitcast(b, self._bits)
        chosen = build.select(build.icmp_signed(order, first, second), first, second)
        return build.bitcast(chosen, self.shape.vector)

    def dtw_cell(
        self, x: ir.Value, y: ir.Value, left: ir.Value, up: ir.Value, diagonal: ir.Value
    ) -> ir.Value:
        """Return ``(x - y)**2 + min(left, up, diagonal)``, the DTW cell of both engines."""
        step = self.sub(x, y)
        best = self.least(self.least(left, diagonal), up)
        return self.add(self.mul(step, step), best)

    # Across lanes

    def shift_in(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """Return the last lane of `x` followed by all lanes of `y` except the last one."""
        last = self.shape.lanes - 1
        return self._shuffle(x, y, [last + lane for lane in range(self.shape.lanes)])

    def transposed(self, square: Sequence[ir.Value]) -> list[ir.Value]:
        """Return the transpose of `square`, a list of as many vectors as a vector has lanes.

        Lane l of vector v becomes lane v of vector l.
        """
        rows, places = list(square), range(self.shape.lanes)
        distance = 1
        while distance < self.shape.lanes:
            # One round of the transposition. Divide the matrix `square` into smaller squares with a
            # side of ``2 * distance``. In each smaller square swap the upper right quarter and the
            # lower left quarter.
            keep = [p if not p & distance else self.shape.lanes + p - distance for p in places]
            take = [p + distance if not p & distance else self.shape.lanes + p for p in places]
            for row in (p for p in places if not p & distance):
                upper, lower = rows[row], rows[row + distance]
                rows[row] = self._shuffle(upper, lower, keep)
                rows[row + distance] = self._shuffle(upper, lower, take)
            distance *= 2
        return rows

    def last(self, x: ir.Value) -> ir.Value:
        """Return the last lane of `x` as a scalar."""
        return self.builder.extract_element(x, _I32(self.shape.lanes - 1))

    def any_below(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return one bit: whether ``a < b`` in any lane."""
        return self._any(self.builder.fcmp_ordered("<", a, b))

    def any_within(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return one bit: whether ``a <= b`` in any lane."""
        return self._any(self.builder.fcmp_ordered("<=", a, b))

    def _any(self, lanes: ir.Value) -> ir.Value:
        mask = ir.IntType(self.shape.lanes)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(lanes, mask), mask(0))

    def _shuffle(self, x: ir.Value, y: ir.Value, lanes: list[int]) -> ir.Value:
        places = ir.Constant(ir.VectorType(_I32, len(lanes)), lanes)
        return self.builder.shuffle_vector(x, y, places)

    # Control

    @contextmanager
    def for_range(
        self,
        begin: ir.Value | int,
        end: ir.Value | int,
        step: int = 1,
        carried: Sequence[ir.Value] = (),
    ) -> Iterator[Loop]:
        """Emit a loop over [begin, end) in steps of `step`.

        The code inside of the ``with`` block emits the body of the loop. `carried` are the values
        of the first iteration; `Loop.carry` sets those of the next one.
        """
        build: Any = self.builder
        first = self.constant(begin) if isinstance(begin, int) else begin
        limit = self.constant(end) if isinstance(end, int) else end
        before, head = build.block, build.append_basic_block("loop")
        body, after = build.append_basic_block("body"), build.append_basic_block("after")
        build.branch(head)
        build.position_at_end(head)
        index = build.phi(self.index)
        phis = [build.phi(value.type) for value in carried]
        build.cbranch(build.icmp_signed("<", index, limit), body, after)
        build.position_at_end(body)
        loop = Loop(index, phis)
        yield loop
        following = build.add(index, self.constant(step))
        for phi, start, coming in zip(
            [index, *phis],
            [first, *carried],
            [following, *loop.following],
            strict=True,
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(coming, build.block)
        build.branch(head)
        build.position_at_end(after)
