"""`History.search` equals brute force in float64: same positions, same bits, on every engine."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import History, Matches
from midstreamer_kernels.options import MEASURES
from midstreamer_kernels.reference.search import search as brute_force
from midstreamer_kernels.stored_history import Storage

engines = st.sampled_from(["numba", "wasm"])
slowly = settings(deadline=None, max_examples=60)  # no deadline: the first example may compile


Search = tuple[list[float], list[float], dict[str, Any]]


def a_walk(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(count).cumsum()


def found(matches: Matches) -> list[tuple[int, float]]:
    return list(zip(matches.index.tolist(), matches.distance.tolist(), strict=True))


@st.composite
def searches(draw: st.DrawFn) -> Search:
    """Draw a history with many equal distances, a query, and options of `History.search`."""
    grid = st.integers(-2, 2).map(float)
    values = draw(st.lists(draw(st.sampled_from([grid, st.floats(-99, 99, width=32)])), min_size=1))
    m = draw(st.integers(1, min(12, len(values))))
    query = draw(st.lists(st.integers(-3, 3).map(float), min_size=m, max_size=m))
    positions = st.none() | st.integers(0, 120)
    return (
        values,
        query,
        {
            "k": draw(st.integers(1, 12)),
            "measure": draw(st.sampled_from(MEASURES)),
            "epsilon": draw(st.sampled_from([0.0, 0.25, 1.0])),
            "band": draw(st.none() | st.integers(0, 4)),
            "step": draw(st.integers(1, 4)),
            "first": draw(positions),
            "last": draw(positions),
            "until": draw(positions),
            "cutoff": draw(st.none() | st.floats(0, 8)),
            "exclusion": draw(st.none() | st.integers(0, 5)),
        },
    )


@settings(slowly, max_examples=150)
@given(search=searches(), start=st.integers(0, 9), normalize=st.booleans(), engine=engines)
def test_a_search_is_brute_force_to_the_bit(
    search: Search, start: int, normalize: bool, engine: str
) -> None:
    values, query, options = search
    history = History(values, start=start, engine=engine)

    matches = history.search(query, normalize=normalize, **options)

    options["exclusion"] = options["exclusion"] or 0
    expected = brute_force(values, query, normalized=normalize, start=start, **options)
    assert found(matches) == expected


@pytest.mark.parametrize("measure", ["dtw", "lcss"])
@pytest.mark.parametrize("band", [None, 3])
def test_pruning_of_many_candidates_loses_none(engine: str, measure: str, band: int | None) -> None:
    values = a_walk(700).astype(np.float32)
    query = a_walk(21, seed=1)
    options: dict[str, Any] = {"measure": measure, "epsilon": 0.2, "band": band, "step": 2}

    matches = History(values, engine=engine).search(query, 9, **options)

    expected = brute_force(values.tolist(), query.tolist(), 9, **options)
    assert found(matches) == expected


def test_the_kept_type_decides_the_points_and_float64_the_distance(engine: str) -> None:
    values, query = a_walk(60), a_walk(9, seed=3)
    for dtype in ("float32", "float64"):
        kept = values.astype(dtype).astype(np.float64).tolist()

        matches = History(values, dtype=dtype, engine=engine).search(query, 5)

        assert found(matches) == brute_force(kept, query.tolist(), 5)


@slowly
@given(k=st.integers(1, 80), engine=engines)
def test_the_k_best_are_the_first_of_more(k: int, engine: str) -> None:
    history, query = History(a_walk(90), engine=engine), a_walk(12, seed=4)

    assert found(history.search(query, k)) == found(history.search(query, 79))[:k]


@slowly
@given(cuts=st.lists(st.integers(0, 120), max_size=8), engine=engines)
def test_points_appended_in_any_portions_are_searched_as_if_built_at_once(
    cuts: Any, engine: str
) -> None:
    values, query = a_walk(120), a_walk(10, seed=5)
    history = History(engine=engine)
    for portion in np.split(values, sorted(cuts)):
        history.append(portion)
        if len(history) >= query.size:
            history.search(query)

    at_once = History(values, engine=engine).search(query, 20)

    assert found(history.search(query, 20)) == found(at_once)


@pytest.mark.parametrize("measure", ["dtw", "lcss"])
def test_engines_give_the_same_bits(measure: str) -> None:
    values, query = a_walk(5_000), a_walk(64, seed=6)
    options: dict[str, Any] = {"measure": measure, "epsilon": 0.3, "band": 3, "step": 8}

    numba, wasm = (
        found(History(values, engine=engine).search(query, 100, **options))
        for engine in ("numba", "wasm")
    )

    assert numba == wasm


def test_threads_do_not_change_the_answer(engine: str) -> None:
    history, query = History(a_walk(2_000), engine=engine), a_walk(30, seed=7)

    assert found(history.search(query, 50, threads=3)) == found(history.search(query, 50))


def test_without_k_every_window_within_the_cutoff_is_found(engine: str) -> None:
    history, query = History(a_walk(500), engine=engine), a_walk(16, seed=8)
    every = found(history.search(query, 485))
    cutoff = every[40][1]

    matches = history.search(query, None, cutoff=cutoff)

    assert found(matches) == [match for match in every if match[1] <= cutoff]


def test_a_constant_window_normalizes_to_zeros(engine: str) -> None:
    history = History([0.1] * 7, dtype="float64", engine=engine)

    matches = history.search([5.0, 5.0, 5.0], 2)

    assert found(matches) == [(0, 0.0), (1, 0.0)]


def test_a_search_without_candidates_finds_nothing(engine: str) -> None:
    history = History(a_walk(20), engine=engine)

    assert len(history.search([1.0, 2.0], until=1)) == 0
    assert len(history.search([1.0, 2.0], first=50)) == 0


def test_a_history_knows_where_it_begins_and_ends() -> None:
    history = History([1.0, 2.0], start=10)
    history.append([3.0])

    assert (history.start, history.end, len(history)) == (10, 13, 3)
    assert history.window(11, 2).tolist() == [2.0, 3.0]


def test_a_new_point_costs_the_statistics_of_one_window() -> None:
    storage, filled = Storage(np.dtype(np.float64), 0), []

    def fill(values: Any, length: int, begin: int, end: int, shift: Any, scale: Any) -> None:
        filled.append((begin, end))

    for portion in (a_walk(70), a_walk(1), a_walk(3)):
        storage.append(portion)
        storage.snapshot(20, fill)

    assert filled == [(0, 51), (51, 52), (52, 55)]


def test_statistics_of_a_length_forgotten_are_made_again(engine: str) -> None:
    history, query = History(a_walk(80), engine=engine), a_walk(30, seed=9)
    before = found(history.search(query[:5], 3))
    for length in range(6, 20):
        history.search(query[:length])

    assert found(history.search(query[:5], 3)) == before
