"""`barycenter` follows the published algorithm; no iteration increases the sum of squared costs."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import (
    BandError,
    NotFiniteError,
    OptionError,
    ShapeError,
    barycenter,
    dtw,
    pairwise,
)
from midstreamer_kernels.reference.barycenter import barycenter as slow_barycenter

slowly = settings(deadline=None, max_examples=25)  # no deadline: the first example may compile


def some_rows(count: int, length: int, *, seed: int = 0, dtype: Any = np.float64) -> NDArray[Any]:
    points = np.random.default_rng(seed).standard_normal((count, length)).cumsum(axis=1)
    return points.round(1).astype(dtype)


def shifted_peaks(count: int = 8, length: int = 60) -> NDArray[np.float64]:
    at = np.arange(length) - length / 2 + np.linspace(-8, 8, count)[:, None]
    peaks: NDArray[np.float64] = np.exp(-at * at / 8)
    return peaks


def inertia(centre: NDArray[Any], rows: NDArray[Any], band: int | None = None) -> float:
    return sum(dtw(centre, row, band=band) ** 2 for row in rows)


@slowly
@given(
    p=st.integers(1, 6),
    n=st.integers(1, 12),
    band=st.integers(0, 11),
    iterations=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_the_centre_is_that_of_the_published_rounds(
    p: int, n: int, band: int, iterations: int, seed: int
) -> None:
    rows = some_rows(p, n, seed=seed)

    centre = barycenter(rows, band=band, iterations=iterations)

    assert centre.tolist() == slow_barycenter(rows.tolist(), band, iterations)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("band", [None, 3])
def test_no_round_makes_it_worse(dtype: Any, band: int | None) -> None:
    rows = some_rows(10, 40, dtype=dtype)

    found = [inertia(barycenter(rows, band=band, iterations=k), rows, band) for k in range(8)]

    # Distances are rounded square roots, so the sum of their squares may grow by that rounding.
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(found))
    assert found[-1] < 0.9 * found[0]


def test_rounds_end_where_nothing_moves_any_more() -> None:
    rows = some_rows(6, 30)

    assert barycenter(rows, iterations=200).tolist() == barycenter(rows, iterations=1000).tolist()


def test_the_start_is_the_series_in_the_middle_of_the_others() -> None:
    rows = some_rows(12, 25)

    middle = (pairwise(rows) ** 2).sum(axis=1).argmin()

    assert barycenter(rows, iterations=0).tolist() == rows[middle].tolist()


def test_the_start_of_many_is_sought_among_an_even_spread() -> None:
    rows = some_rows(300, 4)
    spread = rows[np.linspace(0, 299, 64).astype(int)]

    start = barycenter(rows, iterations=0)

    assert start.tolist() == barycenter(spread, iterations=0).tolist()
    assert start.tolist() != rows[(pairwise(rows) ** 2).sum(axis=1).argmin()].tolist()


def test_a_peak_that_moves_stays_a_peak() -> None:
    rows = shifted_peaks()

    centre = barycenter(rows)

    assert centre.max() > 0.9
    # For comparison: the average of the rows at each point has a much lower peak.
    assert rows.mean(axis=0).max() < 0.6
    assert inertia(centre, rows) < 0.1 * inertia(rows.mean(axis=0), rows)


@slowly
@given(row=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), count=st.integers(1, 4))
def test_copies_of_one_series_have_it_as_their_centre(row: list[float], count: int) -> None:
    assert barycenter([row] * count).tolist() == row


def test_the_type_is_that_of_the_series() -> None:
    assert barycenter(some_rows(3, 9, dtype=np.float32)).dtype == np.float32
    assert barycenter([[1, 2], [3, 4]]).dtype == np.float64


def test_the_rows_are_left_as_they_were() -> None:
    rows = some_rows(3, 9)
    before = rows.copy()

    centre = barycenter(rows, iterations=0)
    centre[:] = 7.0

    assert rows.tolist() == before.tolist()


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        ([], {}, ShapeError, "rows is empty"),
        ([[1.0, 2.0], [1.0]], {}, ShapeError, "rows of several lengths"),
        ([[1.0, np.inf]], {}, NotFiniteError, r"rows\[0\] has inf at position 1"),
        ([[1.0, 2.0]], {"band": -1}, BandError, "band is -1"),
        ([[1.0, 2.0]], {"iterations": -1}, OptionError, "iterations is -1"),
        ([[1.0, 2.0]], {"iterations": 1.5}, OptionError, "iterations is 1.5"),
    ],
)
def test_wrong_input_is_refused(
    rows: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        barycenter(rows, **options)
