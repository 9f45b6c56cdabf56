"""`dtw`, `lcss` and `similarity` return exactly what their definitions give, on every engine."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer_kernels import dtw, lcss, similarity
from midstreamer_kernels.reference.dtw import dtw as slow_dtw
from midstreamer_kernels.reference.lcss import lcss as slow_lcss

numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))
series = st.lists(numbers, min_size=1, max_size=40)
engines = st.sampled_from(["numba", "wasm"])
slowly = settings(deadline=None, max_examples=60)  # no deadline: the first example may compile


@slowly
@given(a=series, b=series, slack=st.none() | st.integers(0, 10), engine=engines)
def test_dtw_is_its_recurrence_to_the_bit(
    a: list[float], b: list[float], slack: int | None, engine: str
) -> None:
    band = None if slack is None else abs(len(a) - len(b)) + slack

    assert dtw(a, b, band=band, engine=engine) == slow_dtw(a, b, band)


@slowly
@given(a=series, b=series)
def test_dtw_of_float32_has_the_same_bits_on_both_engines(a: list[float], b: list[float]) -> None:
    left, right = np.array(a, np.float32), np.array(b, np.float32)

    assert dtw(left, right, engine="numba") == dtw(left, right, engine="wasm")
    assert dtw(left, right) == pytest.approx(slow_dtw(a, b), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("band", [None, 0, 7, 100])
def test_dtw_of_long_series_has_the_same_bits_on_both_engines(band: int | None, dtype: str) -> None:
    dice = np.random.default_rng(5)
    for _ in range(10):
        n, difference = int(dice.integers(5, 900)), int(dice.integers(0, 4))
        a, b = dice.standard_normal((2, n + difference)).cumsum(axis=1).astype(dtype)
        width = None if band is None else band + difference

        distances = {dtw(a[:n], b, band=width, engine=engine) for engine in ("numba", "wasm")}

        assert len(distances) == 1


@slowly
@given(a=series, b=series)
def test_dtw_is_symmetric(a: list[float], b: list[float]) -> None:
    assert dtw(a, b) == dtw(b, a)


@slowly
@given(a=series)
def test_a_series_is_at_no_distance_from_itself(a: list[float]) -> None:
    assert dtw(a, a) == 0.0
    assert similarity(a, a) == 1.0


@slowly
@given(a=series, b=series, cutoff=st.floats(0, 1e7), engine=engines)
def test_a_cutoff_never_changes_an_answer_that_it_admits(
    a: list[float], b: list[float], cutoff: float, engine: str
) -> None:
    distance = dtw(a, b)

    answer = dtw(a, b, cutoff=cutoff, engine=engine)

    assert answer == (distance if distance <= cutoff else math.inf)


def test_a_cutoff_equal_to_the_distance_admits_it(engine: str) -> None:
    a, b = np.random.default_rng(2).standard_normal((2, 300)).cumsum(axis=1)
    for band in (None, 5):
        distance = dtw(a, b, band=band)

        assert dtw(a, b, band=band, cutoff=distance, engine=engine) == distance
        below = np.nextafter(distance, 0)
        assert dtw(a, b, band=band, cutoff=below, engine=engine) == math.inf


def test_a_hopeless_pair_is_abandoned(engine: str) -> None:
    a, b = np.zeros(200), np.full(200, 9.0)

    assert dtw(a, b, band=3, cutoff=1.0, engine=engine) == math.inf


def test_band_zero_is_the_euclidean_distance(engine: str) -> None:
    a, b = np.random.default_rng(1).standard_normal((2, 50))

    assert dtw(a, b, band=0, engine=engine) == pytest.approx(np.linalg.norm(a - b))


@slowly
@given(
    a=series,
    b=series,
    epsilon=st.floats(0, 5),
    slack=st.none() | st.integers(0, 10),
    engine=engines,
)
def test_lcss_is_its_definition(
    a: list[float], b: list[float], epsilon: float, slack: int | None, engine: str
) -> None:
    band = None if slack is None else abs(len(a) - len(b)) + slack

    assert lcss(a, b, epsilon=epsilon, band=band, engine=engine) == slow_lcss(a, b, epsilon, band)


def test_epsilon_is_inclusive(engine: str) -> None:
    assert lcss([0.0, 1.0], [0.5, 1.5], epsilon=0.5, engine=engine) == 2
    assert lcss([0.0, 1.0], [0.5, 1.5], epsilon=0.49, engine=engine) == 0


@slowly
@given(a=series, b=series, epsilon=st.floats(0, 5))
def test_similarity_lies_between_zero_and_one(
    a: list[float], b: list[float], epsilon: float
) -> None:
    assert 0.0 <= similarity(a, b) <= 1.0
    assert 0.0 <= similarity(a, b, measure="lcss", epsilon=epsilon) <= 1.0


def test_similarity_scales_with_the_longer_series() -> None:
    a, b = [0.0, 0.0], [3.0, 3.0, 3.0, 3.0]

    assert similarity(a, b) == 1 / (1 + dtw(a, b) / 2)
    assert similarity(a, b, measure="lcss", epsilon=3) == 1.0
