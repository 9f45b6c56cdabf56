"""Vectors in LLVM IR: the dozen operations of which the inner loops are written.

A `Shape` says which number is computed with, how many lanes a vector has and how many vectors are
kept in registers; `Vectors` emits instructions for it. Every operation works on each lane by
itself and rounds once, so all shapes give the same bits. Compilers map a vector of LLVM onto one
register where the lanes fit, and onto several where they do not.

Costs are sums of squares: never negative, never NaN, at most +inf. Such numbers are ordered like
the integers of the same bits, and most processors take the lesser of two integers at least as fast
as the lesser of two floats; where the instruction does not exist (64 bits before AVX-512, and in
WebAssembly) `Shape.integers` is false and floats are compared.
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
    """A floating point type, and the integer of the same width."""

    name: str
    bytes: int
    type: ir.Type
    bits_type: ir.IntType

    @property
    def pointer(self) -> ir.PointerType:
        """Pointer to one element."""
        return ir.PointerType(self.type)


FLOAT32 = Number("float32", 4, ir.FloatType(), ir.IntType(32))
FLOAT64 = Number("float64", 8, ir.DoubleType(), ir.IntType(64))


@dataclass(frozen=True)
class Shape:
    """What an emitter is asked for: the number, the lanes of a vector, the vectors held."""

    number: Number
    lanes: int
    rows: int
    integers: bool = True
    """Compare costs as integers of the same bits."""
    stores_last: bool = False
    """Store after the loads of a loop's turn: for compilers that keep the order of both."""

    @property
    def name(self) -> str:
        """A name for functions of this shape."""
        least = "i" if self.integers else "f"
        stores = "l" if self.stores_last else ""
        return f"{self.number.name}_{self.lanes}x{self.rows}{least}{stores}"

    @property
    def vector(self) -> ir.VectorType:
        """The type of one vector."""
        return ir.VectorType(self.number.type, self.lanes)


def function(
    module: ir.Module, name: str, result: ir.Type, **parameters: ir.Type
) -> tuple[ir.Function, ir.IRBuilder]:
    """Add an internal function to `module`; its arguments are named as in `parameters`."""
    signature = ir.FunctionType(result, list(parameters.values()))
    added = ir.Function(module, signature, name)
    added.linkage = "internal"
    for argument, label in zip(added.args, parameters, strict=True):
        argument.name = label
    return added, ir.IRBuilder(added.append_basic_block("entry"))


@dataclass
class Loop:
    """A loop under construction: `index` counts, `values` are carried from turn to turn.

    After the loop `values` are those at its end.
    """

    index: ir.Value
    values: list[ir.Value]
    following: list[ir.Value] = field(default_factory=list)

    def carry(self, values: Sequence[ir.Value]) -> None:
        """Say what the next turn gets as `values`, in the same order."""
        self.following = list(values)


class Vectors:
    """Emits instructions on vectors of one shape into the block that `builder` is at."""

    def __init__(self, builder: ir.IRBuilder, shape: Shape, index: ir.IntType) -> None:
        self.builder, self.shape, self.index = builder, shape, index
        self._bits = ir.VectorType(shape.number.bits_type, shape.lanes)

    # Numbers

    def constant(self, value: int) -> ir.Constant:
        """A whole number of the index type."""
        return ir.Constant(self.index, value)

    def infinite(self) -> ir.Value:
        """+inf in every lane: outside of the matrix or of the band."""
        return self.every(float("inf"))

    def every(self, value: float) -> ir.Constant:
        """The constant `value` in every lane."""
        return ir.Constant(self.shape.vector, [value] * self.shape.lanes)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """`scalar` in every lane."""
        undefined = ir.Constant(self.shape.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, _I32(0))
        return self._shuffle(first, undefined, [0] * self.shape.lanes)

    # Memory

    def at(self, pointer: ir.Value, offset: ir.Value | int = 0) -> ir.Value:
        """The pointer to the element `offset` elements after `pointer`."""
        step = self.constant(offset) if isinstance(offset, int) else offset
        return self.builder.gep(pointer, [step], inbounds=True)

    def load(
        self, pointer: ir.Value, offset: ir.Value | int = 0, *, aligned: bool = False
    ) -> ir.Value:
        """`lanes` elements from `offset` elements after `pointer`; `aligned` to whole vectors."""
        return self.builder.load(self._place(pointer, offset), align=self._alignment(aligned))

    def store(
        self,
        value: ir.Value,
        pointer: ir.Value,
        offset: ir.Value | int = 0,
        *,
        aligned: bool = False,
    ) -> None:
        """Write `lanes` elements from `offset` elements after `pointer`."""
        self.builder.store(value, self._place(pointer, offset), align=self._alignment(aligned))

    def load_one(self, pointer: ir.Value, offset: ir.Value | int = 0) -> ir.Value:
        """One element."""
        return self.builder.load(self.at(pointer, offset))

    def store_one(self, value: ir.Value, pointer: ir.Value, offset: ir.Value | int = 0) -> None:
        """Write one element."""
        self.builder.store(value, self.at(pointer, offset))

    def times_lanes(self, count: ir.Value) -> ir.Value:
        """The elements in `count` vectors."""
        return self.builder.mul(count, self.constant(self.shape.lanes))

    def _alignment(self, aligned: bool) -> int:
        return self.shape.number.bytes * (self.shape.lanes if aligned else 1)

    def _place(self, pointer: ir.Value, offset: ir.Value | int) -> ir.Value:
        return self.builder.bitcast(self.at(pointer, offset), ir.PointerType(self.shape.vector))

    # Arithmetic: each rounds once; nothing is fused or reordered

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """a - b."""
        return self.builder.fsub(a, b)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """a + b."""
        return self.builder.fadd(a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """a * b."""
        return self.builder.fmul(a, b)

    def least(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The lesser of two costs (not negative, not NaN)."""
        return self._choose("<", a, b)

    def greatest(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The greater of two costs (not negative, not NaN)."""
        return self._choose(">", a, b)

    def lesser(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The lesser of any two numbers that are not NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def greater(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The greater of any two numbers that are not NaN."""
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
        """``(x - y)**2 + min(left, up, diagonal)``, the one arithmetic of every engine."""
        step = self.sub(x, y)
        best = self.least(self.least(left, diagonal), up)
        return self.add(self.mul(step, step), best)

    # Across lanes

    def shift_in(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """The last lane of `x`, then all of `y` but its last."""
        last = self.shape.lanes - 1
        return self._shuffle(x, y, [last + lane for lane in range(self.shape.lanes)])

    def transposed(self, square: Sequence[ir.Value]) -> list[ir.Value]:
        """As many vectors as there are lanes: lane l of vector v becomes lane v of vector l."""
        rows, places = list(square), range(self.shape.lanes)
        distance = 1
        while distance < self.shape.lanes:
            # Swap the off-diagonal quarters of all squares of twice the distance.
            keep = [p if not p & distance else self.shape.lanes + p - distance for p in places]
            take = [p + distance if not p & distance else self.shape.lanes + p for p in places]
            for row in (p for p in places if not p & distance):
                upper, lower = rows[row], rows[row + distance]
                rows[row] = self._shuffle(upper, lower, keep)
                rows[row + distance] = self._shuffle(upper, lower, take)
            distance *= 2
        return rows

    def last(self, x: ir.Value) -> ir.Value:
        """The last lane."""
        return self.builder.extract_element(x, _I32(self.shape.lanes - 1))

    def any_below(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Whether a < b in any lane, as one bit."""
        return self._any(self.builder.fcmp_ordered("<", a, b))

    def any_within(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Whether a <= b in any lane, as one bit."""
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
        """Loop from `begin` to before `end`; the body is what is emitted inside of the context."""
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
