"""Each entry of `pairwise` equals the comparison of its pair, for any tiles and any threads."""

import signal
import sys
from collections.abc import Iterator
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
    dtw,
    options,
    pairwise,
)
from midstreamer_kernels.native import distance_matrix, lcss, warping_path
from midstreamer_kernels.reference.pairwise import pairwise as slow_pairwise

# `midstreamer_kernels.pairwise` is the function, so the test takes the module from `sys.modules`.
MODULE = sys.modules["midstreamer_kernels.pairwise"]
engines = st.sampled_from(["numba", "wasm"])
dtypes = st.sampled_from([np.float32, np.float64])
tolerances = st.sampled_from([None, 0.5])  # epsilon for LCSS; None means DTW
counts, lengths, slacks = st.integers(1, 40), st.integers(1, 12), st.integers(0, 5)
slowly = settings(deadline=None, max_examples=25)  # no deadline: the first example may compile


def some_rows(count: int, length: int, *, seed: int = 0, dtype: Any = np.float64) -> NDArray[Any]:
    points = np.random.default_rng(seed).standard_normal((count, length)).cumsum(axis=1)
    return points.round(1).astype(dtype)


def distances(rows: Any, columns: Any = None, *, epsilon: float | None, **options: Any) -> Any:
    measure = "dtw" if epsilon is None else "lcss"
    return pairwise(rows, columns, measure=measure, epsilon=epsilon, **options)


@slowly
@given(p=counts, q=counts, n=lengths, m=lengths, slack=slacks, epsilon=tolerances, engine=engines)
def test_entries_are_those_of_the_definition(
    p: int, q: int, n: int, m: int, slack: int, epsilon: float | None, engine: str
) -> None:
    rows, columns = some_rows(min(p, 9), n), some_rows(min(q, 9), m, seed=1)
    band = abs(n - m) + slack

    found = distances(rows, columns, epsilon=epsilon, band=band, engine=engine, threads=1)

    assert found.dtype == np.float64
    assert found.tolist() == slow_pairwise(
        rows.tolist(),
        columns.tolist(),
        "dtw" if epsilon is None else "lcss",
        band=band,
        epsilon=epsilon or 0.0,
    )


@slowly
@given(p=counts, n=lengths, dtype=dtypes, epsilon=tolerances, engine=engines)
def test_a_table_with_itself_is_symmetric_and_zero_on_the_diagonal(
    p: int, n: int, dtype: Any, epsilon: float | None, engine: str
) -> None:
    rows = some_rows(p, n, dtype=dtype)

    found = distances(rows, epsilon=epsilon, engine=engine)

    assert found.tolist() == found.T.tolist()
    assert not found.diagonal().any()
    assert found.tolist() == distances(rows, rows, epsilon=epsilon, engine=engine).tolist()


@slowly
@given(p=counts, n=lengths, m=lengths, epsilon=tolerances, dtype=dtypes)
def test_engines_give_the_same_bits(
    p: int, n: int, m: int, epsilon: float | None, dtype: Any
) -> None:
    rows, columns = some_rows(p, n, dtype=dtype), some_rows(7, m, seed=1, dtype=dtype)

    found = [
        distances(rows, columns, epsilon=epsilon, engine=engine) for engine in ("numba", "wasm")
    ]

    assert found[0].tolist() == found[1].tolist()


@slowly
@given(p=counts, n=lengths, epsilon=tolerances, engine=engines, cells=st.integers(1, 5000))
def test_neither_threads_nor_tiles_show(
    p: int, n: int, epsilon: float | None, engine: str, cells: int
) -> None:
    rows, columns = some_rows(p, n), some_rows(19, n, seed=1)
    for others in (None, columns):
        expected = distances(rows, others, epsilon=epsilon, engine=engine, threads=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MODULE, "CELLS_MAX", cells)

            parts = distances(rows, others, epsilon=epsilon, engine=engine, threads=2)

        assert parts.tolist() == expected.tolist()


@slowly
@given(order=st.permutations(range(23)), epsilon=tolerances)
def test_the_order_of_rows_is_the_order_of_distances(
    order: list[int], epsilon: float | None
) -> None:
    rows = some_rows(23, 10)

    found = distances(rows[order], epsilon=epsilon)

    assert found.tolist() == distances(rows, epsilon=epsilon)[np.ix_(order, order)].tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entries_are_the_bits_of_a_single_comparison(dtype: Any) -> None:
    # With these numbers of rows, some blocks fill all lanes, some leave lanes empty, and some have
    # so few rows that they are compared pair by pair.
    rows, columns = some_rows(5, 30, dtype=dtype), some_rows(35, 28, seed=1, dtype=dtype)
    assert distance_matrix.LEAST_SHARE > 1
    for band in (None, 4):
        expected = np.array([[dtw(a, b, band=band) for b in columns] for a in rows])

        assert pairwise(rows, columns, band=band).tolist() == expected.tolist()
        turned = pairwise(columns, rows, band=band)
        assert turned.tolist() == expected.T.tolist()
        assert turned.flags.c_contiguous


def test_long_rows_are_compared_one_by_one() -> None:
    rows = some_rows(4, 2100)

    assert pairwise(rows)[1, 3] == dtw(rows[1], rows[3])


def test_float32_counts_only_where_all_series_are() -> None:
    narrow, wide = some_rows(3, 20, dtype=np.float32), some_rows(3, 20, seed=1)

    mixed = pairwise(narrow, wide)

    assert mixed.tolist() == pairwise(narrow.astype(np.float64), wide).tolist()
    assert pairwise(list(narrow)).tolist() == pairwise(narrow).tolist()


def test_progress_counts_pairs_to_the_last(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "CELLS_MAX", 500)
    calls: list[tuple[int, int]] = []
    rows = some_rows(20, 10)

    for threads in (1, 2):
        pairwise(rows, engine=engine, threads=threads, progress=lambda *call: calls.append(call))

        assert calls[-1] == (190, 190)
        assert len(calls) > 10
        assert calls == sorted(calls)
        calls.clear()


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Install Python's SIGINT handler during a test.

    Without it the test would ignore SIGINT when a shell started pytest in the background.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_the_computation(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "CELLS_MAX", 100)
    tiles: list[int] = []

    def interrupted(done: int, total: int) -> None:
        tiles.append(total - done)
        if len(tiles) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pairwise(some_rows(60, 10), threads=threads, progress=interrupted)

    assert len(tiles) == 3
    assert tiles[-1] > 1000


def test_threads_do_not_wait_for_each_other() -> None:
    compiled = [
        entry for module in (lcss, distance_matrix, warping_path) for entry in vars(module).values()
    ]
    compiled = [entry for entry in compiled if hasattr(entry, "targetoptions")]

    assert len(compiled) > 10
    assert all(entry.targetoptions["nogil"] for entry in compiled)


def test_all_usable_processors_work_by_default() -> None:
    assert options.checked_threads(None) >= 1
    assert options.checked_threads(3) == 3


def test_processors_are_counted_where_affinity_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 1000)

    assert options.checked_threads(None) == options.THREADS_MAX


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"rows is empty, shape \(0, 0\)"),
        ([[], []], "rows is empty"),
        ([1.0, 2.0], r"rows\[0\] has 0 dimensions"),
        (np.zeros(3), r"rows has 1 dimensions, shape \(3,\): give two"),
        (5, "rows is not a sequence of series"),
        ([["one"]], r"rows\[0\] is not a series of numbers"),
        (
            [[1.0, 2.0], [1.0, 2.0], [3.0]],
            "rows of several lengths: 2 points in row 0, 1 in row 2",
        ),
    ],
)
def test_what_is_not_a_table_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        pairwise(rows)


def test_what_is_not_finite_is_named_with_row_and_position() -> None:
    rows = some_rows(3, 5)
    rows[2, 1] = np.nan

    with pytest.raises(NotFiniteError, match=r"rows\[2\] has nan at position 1"):
        pairwise(rows)
    with pytest.raises(NotFiniteError, match=r"columns\[2\] has nan"):
        pairwise(rows[:2], rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "edit"}, "measure is 'edit'"),
        ({"measure": "lcss"}, "lcss needs epsilon"),
        ({"measure": "lcss", "epsilon": -1}, "epsilon is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"engine": "gpu"}, "engine is 'gpu'"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pairwise(some_rows(2, 3), **options)


def test_a_band_that_leaves_no_path_is_refused() -> None:
    with pytest.raises(BandError, match="band 1 is narrower"):
        pairwise(some_rows(2, 3), some_rows(2, 5), band=1)
