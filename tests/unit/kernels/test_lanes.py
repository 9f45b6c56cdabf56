"""Windows compared side by side are what the recurrence makes of each of them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels.emit.values import FLOAT32, FLOAT64
from midstreamer_kernels.native import lanes
from midstreamer_kernels.native.machine import instruction_set
from midstreamer_kernels.reference.dtw import cost_matrix

slowly = settings(deadline=None, max_examples=60)  # the first example may compile
dtypes = st.sampled_from(["float32", "float64"])


def compared(query: NDArray[Any], windows: NDArray[Any], band: int, limit: float) -> list[float]:
    """Compare `windows`, shape (lanes, m), with `query` in one block."""
    count, m = windows.shape
    block = lanes.empty_block(query, m)
    block.reshape(-1, count)[lanes.PADDING : lanes.PADDING + m] = windows.T
    costs = np.empty(count, query.dtype)
    lanes.dtw_block(query, block, band, limit, lanes.block_cells(query, band), costs)
    return [float(cost) for cost in costs]


def whole_numbers(seed: int, n: int, m: int, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Small whole numbers: their sums round in neither type."""
    dice = np.random.default_rng(seed)
    count = lanes.lane_count(np.empty(0, dtype))
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
    count = lanes.lane_count(np.empty(0))
    query, *windows = np.random.default_rng(seed).standard_normal((count + 1, 21))

    found = compared(query, np.array(windows), band, math.inf)

    assert found == [cost_matrix(query.tolist(), w.tolist(), band)[-1][-1] for w in windows]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_block_is_left_only_when_every_lane_is_beyond_the_limit(dtype: str) -> None:
    query, windows = np.zeros(64, dtype), np.full((lanes.lane_count(np.empty(0, dtype)), 64), 5.0)

    assert all(math.isinf(cost) for cost in compared(query, windows, 3, 100.0))

    windows[-1] = 1.0
    assert compared(query, windows, 3, 64.0)[-1] == 64.0  # the limit itself is within


def test_lanes_without_a_window_are_infinitely_far() -> None:
    query = np.zeros(9, np.float32)
    windows = np.full((lanes.lane_count(query), 9), np.inf, np.float32)
    windows[0] = 1.0

    first, *others = compared(query, windows, 2, math.inf)

    assert first == 9.0
    assert all(math.isinf(cost) for cost in others)


def test_lanes_fill_two_registers() -> None:
    for number in (FLOAT32, FLOAT64):
        shape = lanes.shape_for(number)
        assert shape.lanes * number.bytes == 2 * instruction_set().vector_bytes
