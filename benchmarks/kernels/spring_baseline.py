"""A plain, fast implementation of SPRING for many patterns, to compare the monitor with.

Sakurai, Faloutsos and Yamamuro, "Stream Monitoring under the Time Warping Distance" (2007): each
pattern keeps a column of costs, and for each cell the tick at which its path began.  A tick
computes the next column from the last one.  Each lane of a vector holds one pattern, so a cell
takes a few vector instructions.  No matches are reported: a tick yields, for every pattern, the
cost of the best path that ends now, and the tick at which this path began.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from midstreamer_kernels.emit.vector_operations import FLOAT32, VOID, Shape, Vectors, function
from midstreamer_kernels.native.emitted import emitted

Floats = NDArray[np.float32]


def emit_tick(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit a function that applies a tick to a block: to the patterns in the lanes of a vector."""
    kind, at = shape.number.type, shape.number.pointer
    added, builder = function(
        module, f"spring_{shape.name}", VOID,
        value=kind, now=kind, points=index, patterns=at, costs=at, starts=at, ends=at, began=at,
    )  # fmt: skip
    value, now, points, patterns, costs, starts, ends, began = added.args
    vectors = Vectors(builder, shape, index)
    x, none, here = vectors.splat(value), vectors.every(0.0), vectors.splat(now)
    # The first point of a pattern has no cells `below` and `corner`.  For it, the loop starts with
    # two cells of cost 0 in their place, from which a path begins at this tick.  So a path can
    # begin at any tick.
    with vectors.for_range(0, points, carried=[none, here, none, here]) as loop:
        below, below_began, corner, corner_began = loop.values
        offset = builder.mul(loop.index, vectors.constant(shape.lanes))
        left, left_began = vectors.load(costs, offset), vectors.load(starts, offset)
        step = vectors.sub(x, vectors.load(patterns, offset))
        best, start = _nearer(vectors, corner, corner_began, left, left_began)
        best, start = _nearer(vectors, below, below_began, best, start)
        cost = vectors.add(vectors.mul(step, step), best)
        vectors.store(cost, costs, offset)
        vectors.store(start, starts, offset)
        loop.carry([cost, start, left, left_began])
    vectors.store(loop.values[0], ends)
    vectors.store(loop.values[1], began)
    builder.ret_void()
    return added


def _nearer(
    vectors: Vectors, a: ir.Value, a_began: ir.Value, b: ir.Value, b_began: ir.Value
) -> tuple[ir.Value, ir.Value]:
    nearer = vectors.builder.fcmp_ordered("<", a, b)
    return vectors.least(a, b), vectors.builder.select(nearer, a_began, b_began)


# With AVX-512 these lanes fill one vector.  With AVX2 they fill two vectors, and the processor
# works on both at the same time.
_LANES = 16
_tick = emitted(emit_tick, Shape(FLOAT32, _LANES, 1))


@numba.njit(nogil=True)
def _ticks(
    value: Any, now: Any, patterns: Any, costs: Any, starts: Any, ends: Any, began: Any
) -> None:
    size = patterns[0].size * 4
    for block in range(patterns.shape[0]):
        _tick(
            value, now, patterns.shape[1],
            patterns.ctypes.data + block * size, costs.ctypes.data + block * size,
            starts.ctypes.data + block * size, ends.ctypes.data + block * _LANES * 4,
            began.ctypes.data + block * _LANES * 4,
        )  # fmt: skip


class Spring:
    """State of SPRING for several patterns.

    The patterns are given as an array of shape (patterns, points).  The last pattern is repeated
    until the number of patterns is a multiple of `_LANES`.
    """

    def __init__(self, patterns: NDArray[np.float64]) -> None:
        count, points = patterns.shape
        padded = np.pad(patterns, ((0, -count % _LANES), (0, 0)), mode="edge")
        blocks = padded.reshape(-1, _LANES, points).transpose(0, 2, 1)
        self.patterns: Floats = np.ascontiguousarray(blocks, dtype=np.float32)
        self.costs: Floats = np.full_like(self.patterns, np.inf)
        self.starts: Floats = np.zeros_like(self.patterns)
        self.ends: Floats = np.zeros(padded.shape[0], dtype=np.float32)
        self.began: Floats = np.zeros(padded.shape[0], dtype=np.float32)
        self.now = 0

    def push(self, value: float) -> None:
        """Process a tick.

        Then ``ends`` holds the cost of the best path of each pattern that ends at this tick, and
        ``began`` holds the tick at which this path began.
        """
        _ticks(
            np.float32(value), np.float32(self.now), self.patterns, self.costs, self.starts,
            self.ends, self.began,
        )  # fmt: skip
        self.now += 1
