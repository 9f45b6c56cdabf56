"""Both engines compared with brute force, at realistic sizes and on realistic kinds of series.

The unit tests search small and unusual cases. Only at realistic sizes do the engines skip many
windows (pruning). Brute force is plain Python and slow, so it computes each answer once, for
comparison with every engine.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from midstreamer_kernels import History, Run, nearest
from midstreamer_kernels.reference.search import search as brute_force

COUNT, WINDOW, BAND, STEP = 1_200, 48, 3, 8

FAMILIES: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "random walk": lambda dice: dice.standard_normal(COUNT).cumsum(),
    "price level": lambda dice: 1e6 + dice.standard_normal(COUNT).cumsum() / 100,
    "noise": lambda dice: dice.standard_normal(COUNT),
    "daily pattern": lambda dice: (
        np.sin(np.arange(COUNT) * np.pi / 12) + dice.standard_normal(COUNT) / 20
    ),
    "exact repeats": lambda dice: np.tile(dice.standard_normal(80), COUNT // 80),
    "steps with long constants": lambda dice: np.repeat(
        dice.integers(0, 4, COUNT // 60).astype(float), 60
    ),
}


@pytest.mark.parametrize("measure", ["dtw", "lcss"])
@pytest.mark.parametrize("k", [1, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_engines_equal_brute_force(family: str, k: int, measure: str) -> None:
    values = FAMILIES[family](np.random.default_rng(11))
    past, query = values[:-WINDOW], values[-WINDOW:]
    expected = brute_force(
        past.tolist(), query.tolist(), k, measure=measure, epsilon=0.25, band=BAND, step=STEP
    )

    for engine in ("numba", "wasm"):
        matches = History(past, dtype="float64", engine=engine).search(
            query, k, measure=measure, epsilon=0.25, band=BAND, step=STEP
        )

        found = zip(matches.index.tolist(), matches.distance.tolist(), strict=True)
        assert list(found) == expected


@pytest.mark.parametrize("engine", ["numba", "wasm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_three_holders_answer_as_one(family: str, engine: str) -> None:
    values = FAMILIES[family](np.random.default_rng(12))
    query, overlap = values[-WINDOW:], WINDOW - 1
    borders = [0, 401, 777, COUNT]
    runs = [
        Run(History(values[low : high + overlap], start=low), first=low, last=high)
        for low, high in itertools.pairwise(borders)
    ]

    _, index, distance = nearest(runs, query, 30, band=BAND, engine=engine)

    expected = History(values).search(query, 30, band=BAND)
    assert index.tolist() == expected.index.tolist()
    assert distance.tolist() == expected.distance.tolist()
