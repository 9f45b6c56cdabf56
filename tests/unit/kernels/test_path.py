"""`dtw_path` returns the path of the recurrence, and the path's cost equals the distance."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import BandError, NotFiniteError, dtw, dtw_path
from midstreamer_kernels.native.warping_path import least_path
from midstreamer_kernels.reference.path import least_path as slow_path

# With small whole numbers many paths have equal cost.
numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))
series = st.lists(numbers, min_size=1, max_size=40)
slowly = settings(deadline=None, max_examples=60)  # no deadline: the first example may compile
dtypes = st.sampled_from([np.float32, np.float64])


def cost_along(path: NDArray[np.int64], a: NDArray[Any], b: NDArray[Any]) -> Any:
    cost = a.dtype.type(0)
    for i, j in path:
        cost = cost + (a[i] - b[j]) * (a[i] - b[j])
    return cost


@slowly
@given(a=series, b=series, slack=st.none() | st.integers(0, 10))
def test_the_path_is_that_of_the_recurrence(
    a: list[float], b: list[float], slack: int | None
) -> None:
    band = None if slack is None else abs(len(a) - len(b)) + slack

    distance, path = dtw_path(a, b, band=band)

    assert [tuple(pair) for pair in path.tolist()] == slow_path(a, b, band)
    assert distance == dtw(a, b, band=band)


@slowly
@given(a=series, b=series, slack=st.none() | st.integers(0, 10), dtype=dtypes)
def test_the_cost_along_the_path_is_the_distance_to_the_bit(
    a: list[float], b: list[float], slack: int | None, dtype: Any
) -> None:
    band = None if slack is None else abs(len(a) - len(b)) + slack
    left, right = np.array(a, dtype), np.array(b, dtype)

    distance, path = dtw_path(left, right, band=band)

    assert float(np.sqrt(cost_along(path, left, right))) == distance
    assert distance == dtw(left, right, band=band)


@slowly
@given(a=series, b=series, slack=st.integers(0, 10))
def test_a_path_leads_from_corner_to_corner_within_the_band(
    a: list[float], b: list[float], slack: int
) -> None:
    band = abs(len(a) - len(b)) + slack

    path = dtw_path(a, b, band=band)[1]

    assert path.dtype == np.int64
    assert (path[0].tolist(), path[-1].tolist()) == ([0, 0], [len(a) - 1, len(b) - 1])
    assert {tuple(step) for step in np.diff(path, axis=0).tolist()} <= {(0, 1), (1, 0), (1, 1)}
    assert np.abs(path[:, 0] - path[:, 1]).max() <= band


@slowly
@given(a=series, b=series, bytes_max=st.integers(1, 60), slack=st.integers(0, 40), dtype=dtypes)
def test_walking_in_blocks_gives_the_same_path(
    a: list[float], b: list[float], bytes_max: int, slack: int, dtype: Any
) -> None:
    band = min(abs(len(a) - len(b)) + slack, max(len(a), len(b)) - 1)
    left, right = np.array(a, dtype), np.array(b, dtype)
    expected = least_path(left, right, band)

    squared, path = least_path(left, right, band, bytes_max)

    assert squared == expected[0]
    assert path.tolist() == expected[1].tolist()


def test_a_long_path_takes_little_memory() -> None:
    a, b = np.random.default_rng(3).standard_normal((2, 3000)).cumsum(axis=1)

    squared, path = least_path(a, b, 2999, bytes_max=2**14)

    assert math.sqrt(squared) == dtw(a, b)
    assert cost_along(path, a, b) == squared


def test_the_path_of_a_series_with_itself_is_the_diagonal() -> None:
    values = np.random.default_rng(4).standard_normal(50)

    distance, path = dtw_path(values, values)

    assert distance == 0.0
    assert path.tolist() == [[i, i] for i in range(50)]


def test_of_equal_steps_the_diagonal_is_first_then_the_one_in_a() -> None:
    assert dtw_path([0.0, 0.0, 0.0], [0.0, 0.0])[1].tolist() == [[0, 0], [1, 0], [2, 1]]
    assert dtw_path([1.0, 0.0], [0.0, 1.0])[1].tolist() == [[0, 0], [1, 1]]


def test_float32_counts_only_where_both_series_are() -> None:
    a, b = np.array([0.1, 0.2, 0.7], np.float32), np.array([0.3, 0.1])

    assert dtw_path(a, b)[0] == dtw(a.astype(np.float64), b)


def test_one_point_is_paired_with_all() -> None:
    assert dtw_path([2.0], [0.0, 2.0, 4.0])[1].tolist() == [[0, 0], [0, 1], [0, 2]]


def test_wrong_input_is_refused_before_any_computing() -> None:
    with pytest.raises(NotFiniteError, match="b has nan at position 1"):
        dtw_path([1.0, 2.0], [1.0, np.nan])
    with pytest.raises(BandError, match="band 1 is narrower"):
        dtw_path([1.0, 2.0, 3.0], [1.0], band=1)
