"""Measure the limit of the processor: how many DTW cells per second its arithmetic allows.

A cell of the DTW matrix needs a subtraction, two minima, a multiplication and an addition.  The
fastest instructions for these are the minimum of integers and the fused multiply-add.  This module
runs them on vectors of the processor's width.  It computes several cells at the same time, and no
cell needs the result of another one of the same iteration.  Each vector of cells takes one load,
from the L1 cache.

In a kernel each cell needs the results of its neighbours, and the kernel also shifts and stores
vectors.  A kernel therefore computes fewer cells per second than this limit.  The nearer it comes
to the limit, the less time this extra work takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir

from midstreamer_kernels.emit.vector_operations import FLOAT32, VOID, Shape, Vectors, function
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.simd_registers import instruction_set

CELLS = 40_000_000
"""Approximate number of cells per call: so many that the cost of the call itself is negligible."""
POINTS = 1_024
"""Approximate size of the array of points, 4 KiB in float32; a call reads it many times."""


def emit_mix(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``mix(turns, count, one, two, points, results)``, the arithmetic of many cells.

    ``points`` is an array of ``count`` points.  The function goes through this array ``turns``
    times.  Each iteration of the inner loop computes ``shape.rows`` vectors of cells, which do not
    depend on each other.
    """
    kind, at = shape.number.type, shape.number.pointer
    added, builder = function(
        module, f"mix_{shape.name}", VOID,
        turns=index, count=index, one=kind, two=kind, points=at, results=at,
    )  # fmt: skip
    turns, count, one, two, points, results = added.args
    vectors, cells = Vectors(builder, shape, index), shape.rows
    ones, twos = vectors.splat(one), vectors.splat(two)
    with vectors.for_range(0, turns, carried=[ones] * (2 * cells)) as turn:
        step = shape.lanes * cells
        with vectors.for_range(0, count, step, carried=turn.values) as loop:
            sums, minima = loop.values[:cells], loop.values[cells:]
            following = []
            for cell in range(cells):
                place = builder.add(loop.index, vectors.constant(cell * shape.lanes))
                point = vectors.load(points, place)
                sums[cell] = _squared(vectors, vectors.sub(point, ones), sums[cell])
                following.append(vectors.least(vectors.least(minima[cell], point), twos))
            loop.carry([*sums, *following])
        turn.carry(loop.values)
    for cell, value in enumerate(turn.values):
        vectors.store(value, results, cell * shape.lanes)
    builder.ret_void()
    return added


def _squared(vectors: Vectors, step: ir.Value, total: ir.Value) -> ir.Value:
    if not has_fma():
        return vectors.add(vectors.mul(step, step), total)
    kind = vectors.shape.vector
    name = f"llvm.fma.v{vectors.shape.lanes}f32"
    module = vectors.builder.module
    fused = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind] * 3), name)
    return vectors.builder.call(fused, [step, step, total])


def has_fma() -> bool:
    """Return whether the processor has a fused multiply-add instruction."""
    features = binding.get_host_cpu_features()
    return bool(features.get("fma") or features.get("neon"))


def best_mix() -> tuple[Callable[[], None], int]:
    """Return the call that computes the most cells per second, and how many cells it computes.

    The calls that are tried differ in the number of vectors that they compute in parallel.
    """
    registers = instruction_set().registers
    made = [_mix(cells) for cells in range(registers // 4, registers * 3 // 8 + 1)]
    return min(made, key=lambda each: _seconds(each[0]) / each[1])


def _mix(cells: int) -> tuple[Callable[[], None], int]:
    lanes = instruction_set().lanes(FLOAT32)
    mix = emitted(emit_mix, Shape(FLOAT32, lanes, cells))

    @numba.njit
    def run(turns: int, one: Any, two: Any, points: Any, results: Any) -> None:
        mix(turns, points.size, one, two, points.ctypes.data, results.ctypes.data)

    points = np.ones(POINTS // (lanes * cells) * lanes * cells, dtype=np.float32)
    results = np.zeros(2 * lanes * cells, dtype=np.float32)
    turns = CELLS // points.size

    def call() -> None:
        run(turns, np.float32(1), np.float32(2), points, results)

    return call, turns * points.size


def _seconds(call: Callable[[], None]) -> float:
    call()
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return min(taken)
