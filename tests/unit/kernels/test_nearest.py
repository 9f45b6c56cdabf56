"""`nearest` over several runs returns what searches of each run return when they are merged."""

import itertools
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import History, Run, nearest
from midstreamer_kernels.search import Found

engines = st.sampled_from(["numba", "wasm"])
slowly = settings(deadline=None, max_examples=50)  # no deadline: the first example may compile
M = 12


def a_walk(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(count).cumsum()


def merged(
    runs: list[Run], query: NDArray[np.float64], k: int, **options: Any
) -> list[tuple[float, int, int]]:
    """Search each run by itself and merge the results, as the reference for `nearest`."""
    every: list[tuple[float, int, int]] = []
    for which, run in enumerate(runs):
        matches = run.history.search(
            query, k, first=run.first, last=run.last, until=run.until, **options
        )
        every += zip(
            matches.distance.tolist(),
            [which] * len(matches),
            matches.index.tolist(),
            strict=True,
        )
    return sorted(every)[:k]


def found(answer: Found) -> list[tuple[float, int, int]]:
    which, index, distance = answer
    return list(zip(distance.tolist(), which.tolist(), index.tolist(), strict=True))


@slowly
@given(
    k=st.integers(1, 60),
    step=st.integers(1, 9),
    measure=st.sampled_from(["dtw", "lcss"]),
    limits=st.lists(st.integers(0, 200), min_size=3, max_size=3),
    engine=engines,
)
def test_nearest_is_the_merge_of_the_searches(
    k: int, step: int, measure: str, limits: list[int], engine: str
) -> None:
    histories = [History(a_walk(150, seed).round(1), engine=engine) for seed in range(3)]
    first, last, until = limits
    runs = [Run(histories[0], first=first), Run(histories[1], last=last)]
    runs += [Run(histories[2], until=until), Run(histories[0])]
    options: dict[str, Any] = {"measure": measure, "epsilon": 0.25, "band": 2, "step": step}

    answer = nearest(runs, a_walk(M, seed=9), k, engine=engine, **options)

    assert found(answer) == merged(runs, a_walk(M, seed=9), k, **options)


@slowly
@given(cuts=st.sets(st.integers(1, 280), max_size=5), step=st.integers(1, 8), engine=engines)
def test_overlapping_parts_give_the_bits_of_the_whole(cuts: Any, step: int, engine: str) -> None:
    values, query = a_walk(300), a_walk(M, seed=2)
    borders = [0, *sorted(cuts), 300]
    parts = [
        Run(History(values[low : high + M - 1], start=low), first=low, last=high)
        for low, high in itertools.pairwise(borders)
    ]

    _, index, distance = nearest(parts, query, 25, step=step, band=3, engine=engine)

    unbroken = History(values, engine=engine).search(query, 25, step=step, band=3)
    assert index.tolist() == unbroken.index.tolist()
    assert distance.tolist() == unbroken.distance.tolist()


def test_a_history_shorter_than_the_query_has_no_windows(engine: str) -> None:
    runs = [Run(History([1.0, 2.0])), Run(History(a_walk(30)))]

    which, _, _ = nearest(runs, a_walk(M, seed=1), 40, engine=engine)

    assert set(which.tolist()) == {1}


def test_no_runs_find_nothing(engine: str) -> None:
    which, index, distance = nearest([], a_walk(M), 3, engine=engine)

    assert which.size == index.size == distance.size == 0


def test_a_cutoff_holds_across_runs(engine: str) -> None:
    runs = [Run(History(a_walk(90, seed))) for seed in range(3)]
    every = found(nearest(runs, a_walk(M, seed=8), 300, engine=engine))

    within = nearest(runs, a_walk(M, seed=8), None, cutoff=every[30][0], engine=engine)

    assert found(within) == every[:31]


@pytest.mark.parametrize("measure", ["dtw", "lcss"])
def test_threads_that_append_and_search_see_whole_histories(engine: str, measure: str) -> None:
    values, query = a_walk(3_000), a_walk(M, seed=3)
    history = History(values[:500], engine=engine)
    runs = [Run(history, until=500)]
    options: dict[str, Any] = {"measure": measure, "epsilon": 0.3, "band": 2, "engine": engine}
    expected = found(nearest(runs, query, 20, **options))
    answers: list[Any] = []

    def search() -> None:
        answers.extend(found(nearest(runs, query, 20, **options)) for _ in range(10))

    searchers = [threading.Thread(target=search) for _ in range(3)]
    for thread in searchers:
        thread.start()
    for portion in np.split(values[500:], 50):
        history.append(portion)
    for thread in searchers:
        thread.join()

    assert answers == [expected] * 30
