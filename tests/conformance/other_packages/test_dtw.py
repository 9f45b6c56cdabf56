"""DTW compared with dtaidistance and aeon, over random lengths, bands and values.

Bands are compared at equal lengths only, because for unequal lengths each package defines a band
differently. The unit tests compare the kernels' own definition with brute force.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

from midstreamer_kernels import dtw, dtw_path, pairwise
from tests.conformance.other_packages.compared_libraries import aeon_dtw, dtaidistance_dtw

Floats = NDArray[np.float64]
RELATIVE = {"float32": 1e-6, "float64": 1e-12}
OTHERS = pytest.mark.parametrize("other", [dtaidistance_dtw, aeon_dtw])


def series(seed: int, points: int, scale: float, kind: str) -> Floats:
    """Return noise or a random walk, with values that float32 holds exactly."""
    values = np.random.default_rng(seed).standard_normal(points) * scale
    values = values.cumsum() if kind == "walk" else values
    return values.astype(np.float32).astype(float)


seeds = some.integers(0, 2**32)
lengths = some.integers(1, 300)
kinds = some.sampled_from(["walk", "noise"])
scales = some.sampled_from([1e-6, 1.0, 1e5])


@OTHERS
@pytest.mark.parametrize("dtype", RELATIVE)
@given(seed=seeds, n=lengths, m=lengths, scale=scales, kind=kinds)
@settings(max_examples=150)
def test_the_full_matrix_gives_the_same_distance(
    other: object, dtype: str, seed: int, n: int, m: int, scale: float, kind: str
) -> None:
    a, b = series(seed, n, scale, kind), series(seed + 1, m, scale, kind)

    distance = dtw(a.astype(dtype), b.astype(dtype))

    assert distance == pytest.approx(other(a, b, None), rel=RELATIVE[dtype], abs=0)  # type: ignore[operator]


@OTHERS
@pytest.mark.parametrize("dtype", RELATIVE)
@given(seed=seeds, n=lengths, share=some.floats(0, 1), scale=scales, kind=kinds)
@settings(max_examples=150)
def test_a_band_gives_the_same_distance(
    other: object, dtype: str, seed: int, n: int, share: float, scale: float, kind: str
) -> None:
    a, b, band = series(seed, n, scale, kind), series(seed + 1, n, scale, kind), int(share * n)

    distance = dtw(a.astype(dtype), b.astype(dtype), band=band)

    assert distance == pytest.approx(other(a, b, band), rel=RELATIVE[dtype], abs=0)  # type: ignore[operator]


@given(seed=seeds, n=lengths, m=lengths)
def test_webassembly_gives_the_same_distance(seed: int, n: int, m: int) -> None:
    a, b = series(seed, n, 1.0, "walk"), series(seed + 1, m, 1.0, "walk")

    assert dtw(a, b, engine="wasm") == pytest.approx(dtaidistance_dtw(a, b, None), rel=1e-12)


@given(seed=seeds, n=lengths, m=lengths)
def test_the_cost_of_a_path_is_the_same_distance(seed: int, n: int, m: int) -> None:
    a, b = series(seed, n, 1.0, "walk"), series(seed + 1, m, 1.0, "walk")

    distance, _ = dtw_path(a, b)

    assert distance == pytest.approx(dtaidistance_dtw(a, b, None), rel=1e-12)


@pytest.mark.parametrize("band", [None, 0, 3, 40])
def test_a_matrix_holds_the_same_distances(band: int | None) -> None:
    rows = np.stack([series(seed, 64, 1.0, "walk") for seed in range(12)])

    distances = pairwise(rows, band=band)

    expected = [[dtaidistance_dtw(a, b, band) for b in rows] for a in rows]
    np.testing.assert_allclose(distances, expected, rtol=1e-12)
