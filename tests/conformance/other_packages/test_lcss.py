"""The longest common subsequence compared with aeon and with the textbook algorithm.

With a band, aeon takes all table cells outside the band as zero, so it can miss a part of the
subsequence and return too small a length. The algorithm of the textbook gives the true length.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray

from midstreamer_kernels import lcss
from tests.conformance.other_packages.compared_libraries import aeon_lcss

Floats = NDArray[np.float64]
lengths = some.integers(1, 90)
seeds = some.integers(0, 2**32)
# Values and epsilon are multiples of 1/8, so many differences equal epsilon exactly and match.
epsilons = some.integers(0, 16).map(lambda eighths: eighths / 8)


def series(seed: int, points: int) -> Floats:
    return np.random.default_rng(seed).integers(-16, 17, points) / 8


def textbook(a: Floats, b: Floats, epsilon: float, band: int) -> int:
    """Return the LCSS length by filling the whole table; only points within the band may match."""
    near = np.abs(np.subtract.outer(np.arange(a.size), np.arange(b.size))) <= band
    matching = near & (np.abs(np.subtract.outer(a, b)) <= epsilon)
    table = np.zeros((a.size + 1, b.size + 1), dtype=int)
    for i, j in np.ndindex(a.size, b.size):
        longer = max(table[i, j + 1], table[i + 1, j])
        table[i + 1, j + 1] = max(longer, table[i, j] + matching[i, j])
    return int(table[-1, -1])


@given(seed=seeds, n=lengths, m=lengths, epsilon=epsilons)
def test_lengths_are_the_same(seed: int, n: int, m: int, epsilon: float) -> None:
    a, b = series(seed, n), series(seed + 1, m)

    assert lcss(a, b, epsilon=epsilon) == aeon_lcss(a, b, epsilon, None)


@given(seed=seeds, n=lengths, share=some.floats(0, 1), epsilon=epsilons)
def test_a_band_loses_nothing_that_is_inside_of_it(
    seed: int, n: int, share: float, epsilon: float
) -> None:
    a, b, band = series(seed, n), series(seed + 1, n), int(share * n)

    length = lcss(a, b, epsilon=epsilon, band=band)

    assert length == textbook(a, b, epsilon, band)
    assert length >= aeon_lcss(a, b, epsilon, band)


@given(seed=seeds, n=lengths, m=lengths, epsilon=epsilons)
def test_float32_counts_the_same(seed: int, n: int, m: int, epsilon: float) -> None:
    a, b = series(seed, n), series(seed + 1, m)

    assert lcss(np.float32(a), np.float32(b), epsilon=epsilon) == aeon_lcss(a, b, epsilon, None)
