"""The emitted LLVM IR computes the same bits as the recurrence, for vectors of any width."""

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding, ir
from numpy.typing import NDArray

from midstreamer_kernels.emit.dtw_of_pair import (
    SCRATCH_ALIGNMENT,
    emit_banded_pair,
    emit_pair,
    emit_room,
)
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64, Shape, Vectors, function
from midstreamer_kernels.reference.dtw import cost_matrix
from midstreamer_kernels.wasm import object_file

INDEX = ir.IntType(64)

# A shape says how many lanes a vector has and how many vectors are computed together. With few
# vectors, even a short series is cut into many strips. The list has the lane counts of all
# supported machines. Some shapes compare costs as integers, others as floating-point numbers.
SHAPES = [
    Shape(FLOAT32, 4, 1), Shape(FLOAT32, 4, 6), Shape(FLOAT32, 8, 1), Shape(FLOAT32, 8, 6),
    Shape(FLOAT32, 16, 1), Shape(FLOAT32, 16, 2), Shape(FLOAT32, 8, 2, integers=False),
    Shape(FLOAT64, 2, 1, integers=False), Shape(FLOAT64, 2, 4, integers=False),
    Shape(FLOAT64, 4, 2, integers=False), Shape(FLOAT64, 8, 1),
    Shape(FLOAT32, 4, 1, stores_last=True), *object_file.SHAPES.values(),
]  # fmt: skip
NAMES = [shape.name for shape in SHAPES]

numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))
series = st.lists(numbers, min_size=1, max_size=40)


class Compiled:
    """Emitted functions, compiled for this processor by LLVM without numba."""

    def __init__(self, *emitted: ir.Function) -> None:
        for written in emitted:
            written.linkage = "external"
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        module = binding.parse_assembly(str(emitted[0].parent))
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(), opt=1
        )
        self._engine = binding.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()

    def __call__(self, name: str, result: Any, *types: Any) -> Callable[..., Any]:
        address = self._engine.get_function_address(name)
        found: Any = ctypes.CFUNCTYPE(result, *types)(address)
        # The engine owns the machine code, so the function keeps a reference to it.
        found.engine = self._engine
        return cast("Callable[..., Any]", found)


Compare = Callable[[NDArray[Any], NDArray[Any], int | None, float], Any]


@functools.cache
def compiled(shape: Shape) -> Compare:
    """Compile the comparison of two series in this shape.

    The returned function compares over the full matrix when its `band` is None.
    """
    module = ir.Module()
    built = Compiled(*(emit(module, shape, INDEX) for emit in EMITTERS))
    number = ctypes.c_float if shape.number is FLOAT32 else ctypes.c_double
    place, count = ctypes.c_void_p, ctypes.c_int64
    room = built(f"pair_room_{shape.name}", count, count, count, count)
    full = built(f"pair_{shape.name}", number, place, count, place, count, number, place)
    banded = built(
        f"banded_pair_{shape.name}", number, place, count, place, count, count, number, place
    )

    def compare(a: NDArray[Any], b: NDArray[Any], band: int | None, limit: float) -> Any:
        size = room(a.size, b.size, -1 if band is None else band)
        # NaN would show that memory was read before it was written.
        scratch = np.full(size + SCRATCH_ALIGNMENT, np.nan, a.dtype)
        begin = -(-scratch.ctypes.data // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
        pair = a.ctypes.data, a.size, b.ctypes.data, b.size
        cost = full(*pair, limit, begin) if band is None else banded(*pair, band, limit, begin)
        used = (begin - scratch.ctypes.data) // a.itemsize + size
        assert np.isnan(scratch[used:]).all(), "wrote beyond its scratch memory"
        return a.dtype.type(cost)

    return compare


EMITTERS = emit_room, emit_pair, emit_banded_pair


def typed(values: list[float], shape: Shape) -> NDArray[Any]:
    return np.array(values, shape.number.name)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
@settings(deadline=None, max_examples=25)
@given(a=series, b=series, slack=st.none() | st.integers(0, 30))
def test_every_shape_computes_the_recurrence_to_the_bit(
    shape: Shape, a: list[float], b: list[float], slack: int | None
) -> None:
    left, right = typed(a, shape), typed(b, shape)
    band = None if slack is None else abs(len(a) - len(b)) + slack

    cost = compiled(shape)(left, right, band, math.inf)

    width = max(len(a), len(b)) if band is None else band
    assert cost == cost_matrix(list(left), list(right), width)[-1][-1]


@pytest.mark.parametrize("band", [None, 0, 7, 60, 300])
@pytest.mark.parametrize(("n", "m"), [(511, 511), (511, 500), (300, 513)])
def test_all_shapes_give_the_same_bits_of_long_series(n: int, m: int, band: int | None) -> None:
    a, b = np.random.default_rng(n + m).standard_normal((2, 520)).cumsum(axis=1)
    wide = None if band is None else band + abs(n - m)

    for number in (FLOAT32, FLOAT64):
        left, right = a[:n].astype(number.name), b[:m].astype(number.name)
        costs = {
            compiled(shape)(left, right, wide, math.inf)
            for shape in SHAPES
            if shape.number is number
        }
        assert len(costs) == 1


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
@settings(deadline=None, max_examples=15)
@given(a=series, b=series, slack=st.none() | st.integers(0, 30), share=st.floats(0, 2))
def test_a_limit_never_changes_a_cost_within_it(
    shape: Shape, a: list[float], b: list[float], slack: int | None, share: float
) -> None:
    left, right = typed(a, shape), typed(b, shape)
    band = None if slack is None else abs(len(a) - len(b)) + slack
    cost = compiled(shape)(left, right, band, math.inf)
    limit = float(cost.dtype.type(cost * share))

    found = compiled(shape)(left, right, band, limit)

    assert found == cost or (found == math.inf and cost > limit)
    assert compiled(shape)(left, right, band, float(cost)) == cost


@pytest.mark.parametrize("band", [None, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_a_hopeless_pair_is_given_up_after_a_strip(shape: Shape, band: int | None) -> None:
    # The series differ only in their first 60 points. These already cost more than the limit of 1,
    # so the comparison can end early.
    a, b = np.zeros((2, 200), shape.number.name)
    a[:60] = 9.0

    assert compiled(shape)(a, b, band, 1.0) == math.inf
    assert compiled(shape)(a, b, band, math.inf) < math.inf


def test_a_cost_above_the_limit_may_be_returned_where_no_strip_ends() -> None:
    a, b = np.zeros(3, np.float32), np.full(3, 9.0, np.float32)

    assert compiled(Shape(FLOAT32, 8, 1))(a, b, None, 1.0) == 3 * 81


@pytest.mark.parametrize("emit", EMITTERS)
def test_what_is_emitted_calls_nothing_and_leaves_the_order_of_operations(emit: Any) -> None:
    # Calls of library functions, and fused or fast-math operations, give other bits on other
    # machines.
    written = str(emit(ir.Module(), SHAPES[1], INDEX))

    assert "call" not in written
    assert "fast" not in written


def emit_square(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit a function that transposes a square in place; its side is the number of lanes."""
    written, build = function(module, "square", ir.VoidType(), values=shape.number.pointer)
    vectors = Vectors(build, shape, index)
    rows = [vectors.load(written.args[0], row * shape.lanes) for row in range(shape.lanes)]
    for row, vector in enumerate(vectors.transposed(rows)):
        vectors.store(vector, written.args[0], row * shape.lanes)
    build.ret_void()
    return written


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
def test_a_square_of_vectors_is_transposed(lanes: int) -> None:
    built = Compiled(emit_square(ir.Module(), Shape(FLOAT32, lanes, 1), INDEX))
    square = np.arange(lanes * lanes, dtype=np.float32).reshape(lanes, lanes)
    target = square.copy()

    built("square", None, ctypes.c_void_p)(target.ctypes.data)

    assert (target == square.T).all()


def test_the_loops_for_webassembly_take_the_instructions_they_were_written_for() -> None:
    text = object_file.assembly()

    assert text.count("i32x4.min_s") > 2 * 2 * object_file.SHAPES["f32"].rows
    assert text.count("f64x2.pmin") > 2 * 2 * object_file.SHAPES["f64"].rows
    assert "relaxed" not in text
    assert "\tcall" not in text
