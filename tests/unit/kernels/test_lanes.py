"""A window compared in SIMD lanes with others gets the same cost as when it is compared alone."""

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels.emit.backward_bound import ROWS, SPANS, emit_envelope_excess
from midstreamer_kernels.emit.bound_selection import emit_choose
from midstreamer_kernels.emit.dtw_in_lanes import emit_lanes
from midstreamer_kernels.emit.transposition import emit_fetch, emit_gather
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.native import windows_in_lanes
from midstreamer_kernels.native.emitted import emitted
from midstreamer_kernels.native.simd_registers import instruction_set
from midstreamer_kernels.reference import bounds
from midstreamer_kernels.reference.dtw import cost_matrix

slowly = settings(deadline=None, max_examples=60)  # no deadline: the first example may compile
dtypes = st.sampled_from(["float32", "float64"])
jit: Any = numba.njit
# Each shape has a number type, a number of lanes and a number of rows. The kernels always use 2
# rows, and the lanes depend on the machine. Some shapes here are used on no machine.
SHAPES = [
    Shape(FLOAT32, 8, 2), Shape(FLOAT32, 16, 2), Shape(FLOAT32, 32, 2), Shape(FLOAT32, 8, 3),
    Shape(FLOAT32, 4, 4), Shape(FLOAT64, 4, 2, integers=False), Shape(FLOAT64, 16, 2),
]  # fmt: skip


def compared(query: NDArray[Any], windows: NDArray[Any], band: int, limit: float) -> list[float]:
    """Compare `windows`, shape (lanes, m), with `query` in one block; return each lane's cost."""
    count, m = windows.shape
    block = windows_in_lanes.empty_block(query, m)
    block.reshape(-1, count)[windows_in_lanes.PADDING : windows_in_lanes.PADDING + m] = windows.T
    costs = np.empty(count, query.dtype)
    windows_in_lanes.dtw_block(
        query, block, band, limit, windows_in_lanes.block_cells(query, band), costs
    )
    return [float(cost) for cost in costs]


def whole_numbers(seed: int, n: int, m: int, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a query and windows of small whole numbers, whose float32 sums are exact too."""
    dice = np.random.default_rng(seed)
    count = windows_in_lanes.lane_count(np.empty(0, dtype))
    query, windows = dice.integers(-3, 4, n), dice.integers(-3, 4, (count, m))
    return query.astype(dtype), windows.astype(dtype)


@slowly
@given(
    seed=st.integers(0, 999), n=st.integers(1, 45), m=st.integers(1, 45),
    slack=st.integers(0, 50), dtype=dtypes,
)  # fmt: skip
def test_every_lane_is_the_recurrence_whatever_the_lengths_and_the_band(
    seed: int, n: int, m: int, slack: int, dtype: str
) -> None:
    query, windows = whole_numbers(seed, n, m, dtype)
    band = min(abs(n - m) + slack, max(n, m) - 1)

    found = compared(query, windows, band, math.inf)

    assert found == [cost_matrix(query.tolist(), w.tolist(), band)[-1][-1] for w in windows]


@slowly
@given(seed=st.integers(0, 999), band=st.integers(0, 20))
def test_float64_lanes_have_the_bits_of_the_recurrence(seed: int, band: int) -> None:
    count = windows_in_lanes.lane_count(np.empty(0))
    query, *windows = np.random.default_rng(seed).standard_normal((count + 1, 21))

    found = compared(query, np.array(windows), band, math.inf)

    assert found == [cost_matrix(query.tolist(), w.tolist(), band)[-1][-1] for w in windows]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_block_is_left_only_when_every_lane_is_beyond_the_limit(dtype: str) -> None:
    query, windows = (
        np.zeros(64, dtype),
        np.full((windows_in_lanes.lane_count(np.empty(0, dtype)), 64), 5.0),
    )

    assert all(math.isinf(cost) for cost in compared(query, windows, 3, 100.0))

    windows[-1] = 1.0
    # A window whose cost equals the limit still gets its cost.
    assert compared(query, windows, 3, 64.0)[-1] == 64.0


def test_lanes_without_a_window_are_infinitely_far() -> None:
    query = np.zeros(9, np.float32)
    windows = np.full((windows_in_lanes.lane_count(query), 9), np.inf, np.float32)
    windows[0] = 1.0

    first, *others = compared(query, windows, 2, math.inf)

    assert first == 9.0
    assert all(math.isinf(cost) for cost in others)


def test_lanes_fill_two_registers() -> None:
    for number in (FLOAT32, FLOAT64):
        shape = windows_in_lanes.shape_for(number)
        assert shape.lanes * number.bytes == 2 * instruction_set().vector_bytes


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_every_shape_gives_the_same_bits(shape: Shape) -> None:
    compare = emitted(emit_lanes, shape)

    @jit  # type: ignore[untyped-decorator]
    def compared_so(query: Any, block: Any, m: int, band: int, cells: Any, costs: Any) -> None:
        compare(
            query.ctypes.data, query.size, block.ctypes.data, m, band, np.inf,
            cells.ctypes.data, costs.ctypes.data, 0,
        )  # fmt: skip

    dice, dtype = np.random.default_rng(4), shape.number.name
    for n, m, band in [(1, 1, 0), (2, 5, 3), (9, 9, 1), (23, 19, 6), (40, 40, 5), (17, 17, 16)]:
        query = dice.standard_normal(n).round(1).astype(dtype)
        windows = dice.standard_normal((shape.lanes, m)).round(1).astype(dtype)
        block = np.full((m + 2 * (shape.rows - 1), shape.lanes), np.inf, dtype)
        block[shape.rows - 1 : shape.rows - 1 + m] = windows.T
        costs = np.empty(shape.lanes, dtype)
        # NaN would show that memory was read before it was written.
        cells = np.full((2 * band + 2) * shape.lanes, np.nan, dtype)
        compared_so(query, block, m, band, cells, costs)

        assert costs.tolist() == [in_type(query, window, band) for window in windows]


def in_type(query: NDArray[Any], window: NDArray[Any], band: int) -> float:
    """Return the DTW cost when every operation is rounded to the type of the arrays."""
    costs = np.full((query.size + 1, window.size + 1), np.inf, query.dtype)
    costs[0, 0] = 0
    for i, x in enumerate(query):
        for j in range(max(0, i - band), min(window.size, i + band + 1)):
            best = min(costs[i, j], costs[i, j + 1], costs[i + 1, j])
            costs[i + 1, j + 1] = (x - window[j]) * (x - window[j]) + best
    return float(costs[-1, -1])


@pytest.mark.parametrize("width", [2, 4, 8, 16])
def test_rows_are_gathered_into_lanes(width: int) -> None:
    gather = emitted(emit_gather, Shape(FLOAT32, 2 * width, 2))

    @jit  # type: ignore[untyped-decorator]
    def gathered(table: Any, starts: Any, m: int, block: Any) -> None:
        gather(table.ctypes.data, starts.ctypes.data, m, block.ctypes.data)

    for m in (1, width - 1, width, 3 * width + 1):
        table = np.random.default_rng(m).standard_normal((30, m)).astype("f4")
        chosen = np.random.default_rng(m).integers(0, 30, 2 * width)
        block = np.empty((m, 2 * width), np.float32)
        gathered(table, chosen * m, m, block)

        assert (block == table[chosen].T).all()


def test_bounds_within_a_limit_are_chosen_in_order() -> None:
    choose = emitted(emit_choose, Shape(FLOAT32, 8, 1))

    @jit  # type: ignore[untyped-decorator]
    def chosen_of(bounds: Any, limit: float, chosen: Any) -> int:
        return choose(bounds.ctypes.data, bounds.size, limit, chosen.ctypes.data)  # type: ignore[no-any-return]

    bounds = np.random.default_rng(0).random(800).astype("f4").round(2)
    bounds[::7] = np.nan  # NaN is never within a limit
    for limit in (-1.0, 0.0, 0.25, math.inf):
        chosen = np.empty(800, np.int64)
        count = chosen_of(bounds, limit, chosen)

        assert chosen[:count].tolist() == np.flatnonzero(bounds <= np.float32(limit)).tolist()


@pytest.mark.parametrize("lanes_of_one", [4, 8, 16])
def test_the_excess_over_an_envelope_is_that_of_the_definition(lanes_of_one: int) -> None:
    shape = Shape(FLOAT32, lanes_of_one, 1)
    excess, fetch = emitted(emit_envelope_excess, shape), emitted(emit_fetch, shape)

    @jit  # type: ignore[untyped-decorator]
    def excess_of(points: Any, row: Any, band: int, passes: int, room: Any) -> float:
        fetch(row.ctypes.data, row.size)  # a prefetch must not change any result
        return excess(  # type: ignore[no-any-return]
            points.ctypes.data, points.size, row.ctypes.data, row.size, band, passes,
            room.ctypes.data, room.shape[1],
        )  # fmt: skip

    for n, band in [(16, 0), (16, 1), (32, 5), (64, 20), (48, 47)]:
        points, row = np.random.default_rng(band).integers(-9, 9, (2, n)).astype("f4")
        room = np.full((ROWS, n + 2 * band + 3 * lanes_of_one), np.nan, np.float32)
        passes = next(p for p in range(9) if SPANS**p >= 2 * band + 1)

        expected = bounds.excesses(points.tolist(), row.tolist(), band)
        assert excess_of(points, row, band, passes, room) == sum(x * x for x in expected)
