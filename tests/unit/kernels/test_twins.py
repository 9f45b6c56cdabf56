"""Each compiled function equals a slow Python twin, in which coverage can be measured."""

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import normal_forms
from midstreamer_kernels.native import (
    bound_filter,
    dtw_of_pair,
    heap,
    history_scan,
    jit_decorators,
    lcss_cell,
    remaining_windows,
    window_preparation,
    windows,
    windows_in_lanes,
)
from midstreamer_kernels.reference import bounds as slow_bounds
from midstreamer_kernels.reference import normal
from midstreamer_kernels.reference.dtw import cost_matrix
from midstreamer_kernels.reference.lcss import lcss
from midstreamer_kernels.search_inputs import COLUMNS, COUNT, ITEM_BYTES, VALUES, SearchOptions
from midstreamer_kernels.stop import NEVER
from midstreamer_kernels.wasm import engine as wasm

jit: Any = numba.njit
carray: Any = numba.carray  # type: ignore[attr-defined]  # numba does not declare the export
slowly = settings(deadline=None, max_examples=40)  # no deadline: the first example may compile
numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))
series = st.lists(numbers, min_size=1, max_size=30)


def same_length_pairs(most: int = 24) -> st.SearchStrategy[Any]:
    return st.integers(1, most).flatmap(
        lambda m: st.tuples(*[st.lists(numbers, min_size=m, max_size=m)] * 2)
    )


def in_lanes(candidates: Any) -> NDArray[np.float64]:
    return np.ascontiguousarray(np.array(candidates).T).ravel()


@slowly
@given(pair=same_length_pairs(), band=st.integers(0, 30))
def test_pairs_are_the_recurrence(pair: tuple[list[float], list[float]], band: int) -> None:
    a, b = (np.array(values) for values in pair)

    assert dtw_of_pair.dtw_squared(a, b, band, np.inf) == cost_matrix(*pair, band)[-1][-1]


@slowly
@given(values=series, length=st.integers(1, 30), dtype=st.sampled_from(["f4", "f8"]))
def test_window_statistics_are_those_of_each_window_alone(
    values: list[float], length: int, dtype: str
) -> None:
    length = min(length, len(values))
    count = len(values) - length + 1
    kept = np.array(values, dtype)
    expected = [normal.statistics(kept.tolist()[i : i + length]) for i in range(count)]

    for fill in (windows.window_statistics, wasm.window_statistics):
        shift, scale = np.empty(count), np.empty(count)
        fill(kept, length, 0, count, shift, scale)

        assert list(zip(shift.tolist(), scale.tolist(), strict=True)) == expected


def test_statistics_of_no_window_are_nothing() -> None:
    untouched = np.full(1, 7.0)

    wasm.window_statistics(np.ones(3), 2, 1, 1, untouched, untouched)

    assert untouched[0] == 7.0


def test_normalize_is_its_twin() -> None:
    values, target = [3.0, 5.0, 9.5], np.empty(3)

    windows.normalize(np.array(values), *normal.statistics(values), target)

    assert target.tolist() == normal.normalize(values)


@slowly
@given(query=series, band=st.integers(0, 30))
def test_the_envelope_is_its_twin(query: list[float], band: int) -> None:
    upper, lower = normal_forms.envelope_of(np.array(query), band, len(query))

    assert (upper.tolist(), lower.tolist()) == slow_bounds.envelope(query, band)


@slowly
@given(pair=same_length_pairs(), band=st.integers(0, 30), epsilon=st.floats(0, 5))
def test_a_bound_never_exceeds_what_it_bounds(
    pair: tuple[list[float], list[float]], band: int, epsilon: float
) -> None:
    window, query = pair
    excesses = slow_bounds.excesses(window, query, band)

    cost = cost_matrix(query, window, band)[-1][-1]
    assert math.fsum(x * x for x in excesses) <= cost * (1 + 1e-12)
    unmatched = sum(x > epsilon for x in excesses)
    assert unmatched <= len(query) - lcss(query, window, epsilon, band)


@slowly
@given(seed=st.integers(0, 999), m=st.integers(1, 40), band=st.integers(0, 39))
def test_lanes_count_the_common_subsequences_of_each_window(seed: int, m: int, band: int) -> None:
    query, *candidates = (
        np.random.default_rng(seed).standard_normal((lcss_cell.LANES + 1, m)).round(1)
    )
    band = min(band, m - 1)
    cells, costs = windows_in_lanes.scratch(band), np.empty(lcss_cell.LANES)

    windows_in_lanes.lcss_lanes(query, in_lanes(candidates), band, 0.3, cells, costs)
    expected = [m - lcss(query, candidate, 0.3, band) for candidate in candidates]
    assert costs.tolist() == expected


def test_a_cell_is_the_recurrence_in_every_lane() -> None:
    # The function is compiled in this process. If it came from a cache, the code generator of
    # `lcss_cell` would not run, and coverage would not see it.
    @jit  # type: ignore[untyped-decorator]
    def one_cell(windows: Any, match: Any) -> None:
        lcss_cell.lcss_cell(match, 1, windows, 0, 2.0, 0.5)

    windows, match = np.arange(lcss_cell.LANES) / 2, np.zeros(3 * lcss_cell.LANES)

    one_cell(windows, match)

    middle = slice(lcss_cell.LANES, 2 * lcss_cell.LANES)
    assert match[middle].tolist() == [float(abs(2.0 - x) <= 0.5) for x in windows]


@slowly
@given(offers=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99))), k=st.integers(1, 9))
def test_the_heap_keeps_the_best(offers: list[tuple[int, int]], k: int) -> None:
    distances, orders, size = np.empty(k), np.empty(k, np.int64), 0

    for distance, order in offers:
        size = heap.offer(distances, orders, size, float(distance), order)

    kept = sorted(zip(distances[:size].tolist(), orders[:size].tolist(), strict=True))
    assert kept == sorted(offers)[:k]


def test_every_compiled_function_releases_the_gil() -> None:
    modules = (
        window_preparation,
        remaining_windows,
        heap,
        windows_in_lanes,
        dtw_of_pair,
        history_scan,
        bound_filter,
        windows,
    )
    compiled = [entry for module in modules for entry in vars(module).values()]
    compiled = [entry for entry in compiled if hasattr(entry, "targetoptions")]

    assert len(compiled) > 20
    assert all(entry.targetoptions["nogil"] for entry in compiled)


def test_a_scan_finds_what_is_there() -> None:
    values = np.array([0.0, 5.0, 1.0, 6.0, 1.0])
    row = np.zeros((1, COLUMNS), np.int64)
    row[0, [VALUES, ITEM_BYTES, COUNT]] = values.ctypes.data, 8, 4
    options = SearchOptions(
        k=2, step=1, band=0, normalized=False, lcss=False, epsilon=0.0, cutoff=np.inf
    )

    for engine in (history_scan.scan, wasm.scan):
        shared = np.full(1, np.inf)
        answer = engine(row, np.array([1.0, 6.0]), options, shared, NEVER)

        assert [part.tolist() for part in answer] == [[0, 0], [2, 0], [0.0, math.sqrt(2)]]


def test_functions_compile_without_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locator(function: Any) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jit_decorators, "_Cache", no_locator)

    assert jit_decorators.jit(lambda x: x + 1)(1) == 2


def test_a_fault_of_the_cache_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(jit_decorators, "_Cache", broken)

    with pytest.raises(RuntimeError, match="something else"):
        jit_decorators.jit(lambda x: x)
