"""Searches of long windows equal brute force on difficult data, although filters skip windows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import History, Run, nearest
from midstreamer_kernels.reference.lcss import lcss
from midstreamer_kernels.reference.normal import normalize

slowly = settings(deadline=None, max_examples=60)  # no deadline: the first example may compile
COUNT = 230

Array = NDArray[np.float64]


def a_walk(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(count).cumsum()


def near_copies(dice: np.random.Generator) -> Array:
    """Return a shape that repeats with differences too small for float32."""
    shape = dice.standard_normal(46).cumsum()
    return np.tile(shape, COUNT // 46) * (1 + dice.standard_normal(COUNT) * 1e-9)


FAMILIES: dict[str, Callable[[np.random.Generator], Any]] = {
    "walk": lambda dice: dice.standard_normal(COUNT).cumsum(),
    "noise": lambda dice: dice.standard_normal(COUNT),
    "near copies": near_copies,
    "high level": lambda dice: 1e9 + dice.standard_normal(COUNT).cumsum() / 1e4,
    "a jump": lambda dice: dice.standard_normal(COUNT).cumsum() + 1e12 * (np.arange(COUNT) > 99),
    "constants": lambda dice: np.repeat(dice.integers(0, 3, COUNT // 46 + 1), 46)[:COUNT] * 1.0,
    "huge": lambda dice: dice.standard_normal(COUNT).cumsum() * 1e120,
    "tiny": lambda dice: dice.standard_normal(COUNT).cumsum() * 1e-120,
}


def costs_of(windows: Array, query: Array, band: int) -> Array:
    """Return the DTW cost of each row of `windows`, shape (count, m), in float64."""
    m = query.size
    above = np.full((m + 1, len(windows)), np.inf)
    above[0] = 0.0
    for i in range(m):
        row = np.full_like(above, np.inf)
        for j in range(max(0, i - band), min(m, i + band + 1)):
            step = query[i] - windows[:, j]
            row[j + 1] = step * step + np.minimum(np.minimum(above[j], above[j + 1]), row[j])
        above = row
    last: Array = above[m]
    return last


def brute_force(values: Array, query: Array, **options: Any) -> list[tuple[float, int]]:
    """Return (distance, position) of every window, the nearest first."""
    m, shape = query.size, normalize if options["normalize"] else list
    positions = range(0, values.size - m + 1, options["step"])
    windows = np.array([shape(values[begin : begin + m].tolist()) for begin in positions])
    wanted = np.array(shape(query.tolist()))
    if options["measure"] == "dtw":
        distances = np.sqrt(costs_of(windows, wanted, options["band"])).tolist()
    else:
        lengths = (
            lcss(wanted.tolist(), window.tolist(), options["epsilon"], options["band"])
            for window in windows
        )
        distances = [1.0 - length / m for length in lengths]
    return sorted(zip(distances, positions, strict=True))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, Array, dict[str, Any]]:
    dice = np.random.default_rng(draw(st.integers(0, 99)))
    with np.errstate(over="ignore"):
        values = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))](dice)
    m = draw(st.sampled_from([1, 2, 3, 16, 33, 46, 64]))
    begin = draw(st.integers(0, COUNT - m))
    wobble = draw(st.sampled_from([0.0, 1e-9, 1e-3, 1.0]))
    query = values[begin : begin + m] * (1 + wobble * dice.standard_normal(m))
    return (
        values,
        query,
        {
            "band": min(m - 1, draw(st.sampled_from([0, 1, 3, 20, 63]))),
            "step": draw(st.sampled_from([1, 1, 3, 8, 70, 150])),
            "normalize": draw(st.booleans()),
            "measure": "dtw",
            "epsilon": draw(st.sampled_from([0.0, 0.1, 1.0])),
        },
    )


@settings(slowly, max_examples=150)
@given(case=cases(), k=st.sampled_from([1, 2, 7, 60]), threads=st.sampled_from([1, 2]))
def test_the_nearest_are_those_of_brute_force(case: Any, k: int, threads: int) -> None:
    values, query, options = case
    history = History(values, dtype="float64")

    matches = history.search(query, k, threads=threads, **options)

    expected = brute_force(values, query, **options)[:k]
    assert list(zip(matches.distance.tolist(), matches.index.tolist(), strict=True)) == expected


@slowly
@given(case=cases(), place=st.integers(0, 20))
def test_within_a_cutoff_are_those_of_brute_force(case: Any, place: int) -> None:
    values, query, options = case
    every = brute_force(values, query, **options)
    cutoff = every[min(place, len(every) - 1)][0]

    matches = History(values, dtype="float64").search(query, None, cutoff=cutoff, **options)

    expected = [match for match in every if match[0] <= cutoff]
    assert list(zip(matches.distance.tolist(), matches.index.tolist(), strict=True)) == expected


@settings(slowly, max_examples=30)
@given(case=cases(), k=st.sampled_from([1, 5]))
def test_common_subsequences_are_those_of_brute_force(case: Any, k: int) -> None:
    values, query, options = case
    options |= {"measure": "lcss", "band": min(options["band"], 3), "step": 8}
    history = History(values, dtype="float64")

    matches = history.search(query, k, **options)

    expected = brute_force(values, query, **options)[:k]
    assert list(zip(matches.distance.tolist(), matches.index.tolist(), strict=True)) == expected


def test_the_nearest_of_near_copies_is_found_below_the_resolution_of_float32() -> None:
    shape, dice = a_walk(40), np.random.default_rng(5)
    copies = shape + dice.standard_normal((200, 40)) * 1e-9
    query = shape + dice.standard_normal(40) * 1e-9

    matches = History(copies.ravel(), dtype="float64").search(
        query, 3, band=0, step=40, normalize=False
    )

    distances = np.sqrt(((copies - query) ** 2).sum(axis=1))
    assert (matches.index // 40).tolist() == np.argsort(distances)[:3].tolist()
    assert np.unique(copies.astype(np.float32), axis=0).shape[0] < 200


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_blocks_are_searched_as_the_sum_of_their_parts(dtype: str) -> None:
    values, query = a_walk(9_000), a_walk(100, seed=1)
    history = History(values, dtype=dtype)
    parts = [Run(history, first=first, last=first + 450) for first in range(0, 9_000, 450)]

    matches = history.search(query, 40, band=5)

    _, index, distance = nearest(parts, query, 40, band=5)
    assert matches.index.tolist() == index.tolist()
    assert matches.distance.tolist() == distance.tolist()


@pytest.mark.parametrize("exclusion", [1, 20, 64, 500])
def test_matches_kept_apart_are_the_greedy_choice_of_all(exclusion: int) -> None:
    values, query = a_walk(900), a_walk(36, seed=2)
    history = History(values, dtype="float64")
    every = history.search(query, 865, band=3)
    expected: list[int] = []
    for position in every.index.tolist():
        if len(expected) < 6 and all(abs(position - other) >= exclusion for other in expected):
            expected.append(position)

    matches = history.search(query, 6, band=3, exclusion=exclusion)

    assert matches.index.tolist() == expected


def test_a_limit_found_by_one_thread_excludes_nothing_for_another() -> None:
    values, query = np.tile(a_walk(60), 50), a_walk(60)  # the query occurs 50 times
    history = History(values, dtype="float64")

    answers = [history.search(query, 7, band=4, threads=threads) for threads in (1, 2, 5)]

    assert all(answer.index.tolist() == answers[0].index.tolist() for answer in answers)
    assert answers[0].distance.tolist() == [0.0] * 7
