"""`Collection` compared with float64 distances to every row, at realistic sizes.

The unit tests compare small collections with plain Python. Here the collections are so large that
lower bounds rule out many rows. The expected distances come from `exact_costs`, which computes
them in float64 for every row with `dtw_block`. The unit tests compare `dtw_block` with the
definition of DTW.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from midstreamer_kernels import Collection
from midstreamer_kernels.native.collection_rows import exact_costs
from midstreamer_kernels.normal_forms import normal_rows

COUNT, POINTS = 20_000, 128

FAMILIES: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "random walks": lambda dice: dice.standard_normal((COUNT + 4, POINTS)).cumsum(axis=1),
    "price levels": lambda dice: (
        1e5 + dice.standard_normal((COUNT + 4, POINTS)).cumsum(axis=1) / 100
    ),
    "noise": lambda dice: dice.standard_normal((COUNT + 4, POINTS)),
    "few shapes, shifted in time": lambda dice: np.sin(
        dice.integers(0, 40, (COUNT + 4, 1)) / 8 + np.arange(POINTS) / 9
    ),
    "ticks": lambda dice: dice.integers(-1, 2, (COUNT + 4, POINTS)).cumsum(axis=1).astype(float),
}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_collection_equals_brute_force_in_float64(family: str, normalize: bool) -> None:
    *rows, _, _, _, _ = series = FAMILIES[family](np.random.default_rng(7))
    collection = Collection(np.array(rows), normalize=normalize)
    compared = normal_rows(series) if normalize else series
    every = np.arange(COUNT)

    for number, (band, k) in enumerate([(0, 1), (6, 1), (6, 100), (20, 10)]):
        costs = np.empty(COUNT)
        exact_costs(compared[:COUNT], compared[COUNT + number], band, every, costs)
        nearest = np.lexsort((every, np.sqrt(costs)))[:k]
        for threads in (1, 2):
            answer = collection.nearest(series[COUNT + number], k, band=band, threads=threads)

            assert answer.index.tolist() == nearest.tolist()
            assert answer.distance.tolist() == np.sqrt(costs[nearest]).tolist()
