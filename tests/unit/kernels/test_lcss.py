"""`lcss` equals the recurrence, also where machine words, strips and tiles of the matrix meet."""

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import lcss, similarity
from midstreamer_kernels.native import bit_intrinsics
from midstreamer_kernels.native import lcss as native
from midstreamer_kernels.reference.lcss import lcss as slow_lcss

# The code generators that are tested here run only while numba compiles a function. This decorator
# uses no cache, so that numba compiles each function anew in every run.
jit: Any = numba.njit
numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))
series = st.lists(numbers, min_size=1, max_size=90)
slowly = settings(deadline=None, max_examples=60)  # no deadline: the first example may compile
SEAMS = (1, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, 2100)


def a_walk(length: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(length).cumsum().round(1)


def row_by_row(a: Any, b: Any, epsilon: float, band: int | None) -> int:
    """Compute the LCSS of long series row by row, with a running maximum over the row above."""
    above = np.zeros(len(b) + 1, int)
    for i, value in enumerate(a):
        match = np.abs(value - b) <= epsilon
        if band is not None:
            match &= np.abs(np.arange(len(b)) - i) <= band
        above[1:] = np.maximum.accumulate(np.maximum(above[1:], above[:-1] + match))
    return int(above[-1])


@slowly
@given(
    a=series,
    b=series,
    epsilon=st.floats(0, 5),
    slack=st.none() | st.integers(0, 70),
    engine=st.sampled_from(["numba", "wasm"]),
)
def test_the_length_is_that_of_the_recurrence(
    a: list[float], b: list[float], epsilon: float, slack: int | None, engine: str
) -> None:
    band = None if slack is None else abs(len(a) - len(b)) + slack

    found = lcss(a, b, epsilon=epsilon, band=band, engine=engine)

    assert found == slow_lcss(a, b, epsilon, band) == row_by_row(a, np.array(b), epsilon, band)


@pytest.mark.parametrize("m", SEAMS)
@pytest.mark.parametrize("n", [1, 300, 1100])
def test_seams_do_not_show(n: int, m: int, engine: str) -> None:
    a, b = a_walk(n, seed=1), a_walk(m, seed=2)
    for band in (None, abs(n - m), abs(n - m) + 1, abs(n - m) + 64, abs(n - m) + 300):
        expected = row_by_row(a, b, 0.5, band)

        assert lcss(a, b, epsilon=0.5, band=band, engine=engine) == expected


@slowly
@given(a=series, b=series, epsilon=st.floats(0, 5))
def test_lcss_is_symmetric_and_bounded(a: list[float], b: list[float], epsilon: float) -> None:
    length = lcss(a, b, epsilon=epsilon)

    assert 0 <= length <= min(len(a), len(b))
    assert lcss(b, a, epsilon=epsilon) == length


@slowly
@given(a=series, epsilon=st.floats(0, 5), band=st.none() | st.integers(0, 9))
def test_a_series_is_its_own_longest_subsequence(
    a: list[float], epsilon: float, band: int | None
) -> None:
    assert lcss(a, a, epsilon=epsilon, band=band) == len(a)
    assert similarity(a, a, measure="lcss", epsilon=epsilon, band=band) == 1.0


@slowly
@given(a=series, b=series, epsilon=st.floats(0, 5), slack=st.integers(0, 20))
def test_a_wider_band_or_epsilon_never_shortens(
    a: list[float], b: list[float], epsilon: float, slack: int
) -> None:
    band = abs(len(a) - len(b)) + slack
    length = lcss(a, b, epsilon=epsilon, band=band)

    assert lcss(a, b, epsilon=epsilon, band=band + 1) >= length
    assert lcss(a, b, epsilon=epsilon + 0.5, band=band) >= length
    assert lcss(a, b, epsilon=epsilon) >= length


@slowly
@given(steps=st.lists(st.integers(-4, 4), min_size=2, max_size=60), data=st.data())
def test_points_that_differ_in_their_last_bits_are_told_apart(
    steps: list[int], data: st.DataObject
) -> None:
    # `lcss` sorts the points by keys that lack the last bits of the values. So points that differ
    # only in these bits can be in a wrong order at first.
    values = (1.0 + np.array(steps) * 2.0**-52).tolist()
    epsilon = data.draw(st.integers(0, 3)) * 2.0**-52
    expected = slow_lcss(values, values[::-1], epsilon)

    assert lcss(values, values[::-1], epsilon=epsilon) == expected
    assert lcss(values, values[::-1], epsilon=epsilon, engine="wasm") == expected


def test_keys_may_be_out_of_order_among_neighbours_only() -> None:
    values = np.array([1.0 + 2.0**-52, 1.0, -1.0, -1.0 - 2.0**-52, 5.0, 0.0, -0.0])

    places = native.ordered(values) & (native.TILE - 1)

    assert sorted(places.tolist()) == list(range(7))
    assert places[-1] == 4
    assert set(places[:2].tolist()) == {2, 3}


def test_points_match_by_their_difference_in_float64(engine: str) -> None:
    # In float32 the difference of the points is 0.1 after rounding, in float64 it is above 0.1.
    a, b = np.array([0.0], np.float32), np.array([0.1], np.float32)
    assert float(b[0]) > 0.1

    assert lcss(a, b, epsilon=0.1, engine=engine) == 0
    assert lcss(a, b, epsilon=float(b[0]), engine=engine) == 1


def test_the_difference_itself_is_compared_not_the_sum(engine: str) -> None:
    # In float64 the difference 1 - (-1e-300) rounds to 1, which is within epsilon, so the points
    # match. A kernel that compared -1e-300 with 1 - epsilon = 0 would find no match.
    assert lcss([1.0], [-1e-300], epsilon=1.0, engine=engine) == 1
    assert slow_lcss([1.0], [-1e-300], 1.0) == 1


@pytest.mark.parametrize("epsilon", [0.0, -0.0])
def test_without_tolerance_only_equal_points_match(epsilon: float, engine: str) -> None:
    assert lcss([0.0, 1.0, -0.0], [-0.0, 2.0, 0.0], epsilon=epsilon, engine=engine) == 2


def test_with_endless_tolerance_all_points_match(engine: str) -> None:
    assert lcss(a_walk(300), a_walk(200), epsilon=math.inf, engine=engine) == 200


@slowly
@given(a=st.lists(st.integers(0, 2**256 - 1), min_size=2, max_size=2), carry=st.integers(0, 1))
def test_long_numbers_add_with_their_carry(a: list[int], carry: int) -> None:
    words_of = [
        tuple(np.uint64(number >> 64 * place & (2**64 - 1)) for place in range(4)) for number in a
    ]

    *sums, over = _added(*words_of, np.uint64(carry))

    total = sum(int(word) << 64 * place for place, word in enumerate([*sums, over]))
    assert total == sum(a) + carry


@jit  # type: ignore[untyped-decorator]
def _added(a: Any, b: Any, carry: Any) -> Any:
    return bit_intrinsics.add_words(a, b, carry)


def test_words_are_chosen_and_counted() -> None:
    @jit  # type: ignore[untyped-decorator]
    def ones(first: Any, a: Any, b: Any) -> Any:
        return bit_intrinsics.count_ones(bit_intrinsics.chosen(first, a, b))

    assert ones(True, np.uint64(7), np.uint64(2**64 - 1)) == 3
    assert ones(False, np.uint64(7), np.uint64(2**64 - 1)) == 64
