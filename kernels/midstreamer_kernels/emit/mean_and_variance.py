"""Mean and variance of every window of a history, many windows at once.

The sums of a window run over its own points in order, with one rounding per addition, so that their
bits depend on nothing else. Each addition of such a sum must wait for the one before. The sums of
neighbouring windows are independent, and their points at one offset are adjacent in the history. So
lane l of a vector holds the window that begins l points later.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import FLOAT64, VOID, Shape, Vectors, function


def emit_moments(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit the moments of `count` windows of `length` points; window i begins at ``values[i]``.

    `shift` receives the mean of ``x - x[0]`` of each window, in float64. `variances` receives the
    mean of ``(x - x[0] - shift)**2``. The number type of `shape` is that of `values`; the function
    computes ``lanes * rows`` windows at once.
    """
    wide = FLOAT64.pointer
    emitted, builder = function(
        module, f"moments_{shape.name}", VOID,
        values=shape.number.pointer, length=index, count=index, shift=wide, variances=wide,
    )  # fmt: skip
    values, length, count, shift, variances = emitted.args
    begin: Any = index(0)
    for lanes, rows in ((shape.lanes, shape.rows), (1, 1)):
        together = index(lanes * rows)
        left = builder.sub(count, begin)
        end = builder.add(begin, builder.sub(left, builder.srem(left, together)))
        windows = _Windows(builder, Shape(shape.number, lanes, rows), index, length)
        with windows.narrow.for_range(begin, end, lanes * rows) as loop:
            windows.write(*(
                windows.narrow.at(pointer, loop.index) if pointer is values
                else windows.wide.at(pointer, loop.index)
                for pointer in (values, shift, variances)
            ))  # fmt: skip
        begin = end
    builder.ret_void()
    return emitted


class _Windows:
    """Emits the moments of ``lanes * rows`` windows that are computed at once."""

    def __init__(
        self, builder: ir.IRBuilder, shape: Shape, index: ir.IntType, length: ir.Value
    ) -> None:
        self.length, self.rows = length, shape.rows
        self.narrow = Vectors(builder, shape, index)
        self.wide = Vectors(builder, Shape(FLOAT64, shape.lanes, 1), index)

    def write(self, values: ir.Value, shift: ir.Value, variances: ir.Value) -> None:
        builder: Any = self.narrow.builder
        points = builder.sitofp(self.length, FLOAT64.type)
        origins = self._points(values)
        means = self._mean(values, origins, points, None)
        squares = self._mean(values, origins, points, means)
        for row in range(self.rows):
            place = row * self.wide.shape.lanes
            self.wide.store(means[row], shift, place)
            self.wide.store(squares[row], variances, place)

    def _mean(
        self, values: ir.Value, origins: list[Any], points: ir.Value, means: list[Any] | None
    ) -> list[Any]:
        """Return the means of ``x - x[0]``, or the variances around `means` if these are given."""
        wide, builder = self.wide, self.narrow.builder
        zeros = [wide.every(0.0)] * self.rows
        with self.narrow.for_range(0, self.length, carried=zeros) as loop:
            sums = []
            for row, value in enumerate(self._points(self.narrow.at(values, loop.index))):
                term = wide.sub(value, origins[row])
                if means is not None:
                    term = wide.sub(term, means[row])
                    term = wide.mul(term, term)
                sums.append(wide.add(loop.values[row], term))
            loop.carry(sums)
        return [builder.fdiv(total, wide.splat(points)) for total in loop.values]

    def _points(self, values: ir.Value) -> list[Any]:
        builder: Any = self.narrow.builder
        loaded = [self.narrow.load(values, r * self.wide.shape.lanes) for r in range(self.rows)]
        if self.narrow.shape.number is FLOAT64:
            return loaded
        return [builder.fpext(value, self.wide.shape.vector) for value in loaded]
