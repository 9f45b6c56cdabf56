"""Search compared with other packages.

Most tests take distances from another package and compare the search with brute force over them.
The last tests compare with the searches of wildboar and stumpy.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

from midstreamer_kernels import Collection, History
from tests.conformance.other_packages.compared_libraries import (
    aeon_lcss,
    dtaidistance_dtw,
    nearest_euclidean,
    nearest_warped,
)

Floats = NDArray[np.float64]
seeds = some.integers(0, 2**32)
bands = some.sampled_from([None, 0, 2, 7])


def walk(seed: int, *shape: int) -> Floats:
    """Return random walks whose values float32 holds exactly.

    A history stores its values as float32, so it does not round these values.
    """
    values = np.random.default_rng(seed).standard_normal(shape).cumsum(axis=-1)
    return values.astype(np.float32).astype(float)


def normal(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


def every_window(values: Floats, length: int) -> list[Floats]:
    windows = np.lib.stride_tricks.sliding_window_view(values, length)
    return [normal(window) for window in windows]


@pytest.mark.parametrize("engine", ["numba", "wasm"])
@given(seed=seeds, band=bands, k=some.integers(1, 20), length=some.integers(8, 40))
@settings(max_examples=25)
def test_windows_are_those_of_brute_force(
    engine: str, seed: int, band: int | None, k: int, length: int
) -> None:
    values, query = walk(seed, 300), walk(seed + 1, length)

    found = History(values, engine=engine).search(query, k, band=band)

    windows = every_window(values, length)
    expected = np.array([dtaidistance_dtw(normal(query), window, band) for window in windows])
    assert found.index.tolist() == np.argsort(expected, kind="stable")[:k].tolist()
    np.testing.assert_allclose(found.distance, np.sort(expected)[:k], rtol=1e-9)


@given(seed=seeds, band=bands, k=some.integers(1, 20))
@settings(max_examples=25)
def test_rows_are_those_of_brute_force(seed: int, band: int | None, k: int) -> None:
    rows, query = walk(seed, 200, 32), walk(seed + 1, 32)

    found = Collection(rows).nearest(query, k, band=band)

    expected = np.array([dtaidistance_dtw(query, row, band) for row in rows])
    assert found.index.tolist() == np.argsort(expected, kind="stable")[:k].tolist()
    np.testing.assert_allclose(found.distance, np.sort(expected)[:k], rtol=1e-12)


@given(seed=seeds, epsilon=some.floats(0.05, 1.0))
@settings(max_examples=25)
def test_common_subsequences_are_those_of_brute_force(seed: int, epsilon: float) -> None:
    rows, query = walk(seed, 100, 32), walk(seed + 1, 32)

    found = Collection(rows).nearest(query, 10, measure="lcss", epsilon=epsilon, band=4)

    expected = np.array([1 - aeon_lcss(query, row, epsilon, 4) / 32 for row in rows])
    assert found.index.tolist() == np.argsort(expected, kind="stable")[:10].tolist()
    assert found.distance.tolist() == np.sort(expected)[:10].tolist()


@pytest.mark.parametrize("seed", range(8))
def test_the_nearest_window_is_the_one_that_wildboar_finds(seed: int) -> None:
    values, query = walk(seed, 20_000), walk(seed + 100, 128)

    found = History(values).search(query, band=6)

    index, distance = nearest_warped(query, values, 6)
    assert found.index.tolist() == [index]
    assert found.distance[0] == pytest.approx(distance, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_without_warping_it_is_the_one_that_stumpy_finds(seed: int) -> None:
    values, query = walk(seed, 20_000), walk(seed + 100, 128)

    found = History(values).search(query, band=0)

    index, distance = nearest_euclidean(query, values)
    assert found.index.tolist() == [index]
    assert found.distance[0] == pytest.approx(distance, rel=1e-6)
