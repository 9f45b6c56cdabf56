"""`value_of_rank` returns the value that sorting puts at a rank, for any values and any rank."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels.value_of_rank import value_of_rank

FEW = st.sampled_from([0.0, -0.0, 1.0, 2.5, np.inf, -np.inf, 1e-300])


@given(st.lists(FEW | st.floats(allow_nan=False, width=32), min_size=1, max_size=500), st.data())
def test_it_is_that_of_the_sorted_values(values: list[float], data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, len(values) - 1))

    found = value_of_rank(np.array(values), rank)

    assert found == np.sort(values)[rank]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [0, 5, 96, 311, 312, 313, 19_999])
def test_equal_values_and_walks_have_it_too(dtype: type, rank: int) -> None:
    rng = np.random.default_rng(4)
    walk = np.abs(rng.standard_normal(20_000).cumsum()).astype(dtype)

    several: list[NDArray[Any]] = [walk, walk[::-1], np.maximum(walk - 20, 0), np.zeros_like(walk)]

    for values in several:
        assert value_of_rank(values, rank) == np.sort(values)[rank]
