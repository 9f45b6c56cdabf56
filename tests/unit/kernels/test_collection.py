"""`Collection.nearest` returns the rows that a float64 comparison with every row returns."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import (
    BandError,
    Collection,
    NotFiniteError,
    OptionError,
    ShapeError,
    normal_forms,
)
from midstreamer_kernels.collection import scan_all
from midstreamer_kernels.native import collection_cascade, collection_rows, collection_sketch
from midstreamer_kernels.native.windows_in_lanes import LANES_32
from midstreamer_kernels.options import MEASURES
from midstreamer_kernels.reference import bounds as slow_bounds
from midstreamer_kernels.reference import normal
from midstreamer_kernels.reference.collection import nearest as brute_force

slowly = settings(deadline=None, max_examples=50)  # no deadline: the first example may compile
dtypes = st.sampled_from(["float32", "float64"])
engines = st.sampled_from(["numba", "wasm"])


def walks(count: int, m: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((count, m)).cumsum(axis=1)


def found(matches: Any) -> list[tuple[int, float]]:
    return list(zip(matches.index.tolist(), matches.distance.tolist(), strict=True))


class Search(NamedTuple):
    """A search in a collection of rounded random walks, where several rows have equal distances."""

    seed: int
    rows: int
    m: int
    n: int
    digits: int
    dtype: str
    k: int
    measure: str
    slack: int
    normalize: bool
    engine: str


searches = st.builds(
    Search, seed=st.integers(0, 999), rows=st.integers(1, 40), m=st.integers(1, 20),
    n=st.integers(1, 20), digits=st.integers(0, 2), dtype=dtypes, k=st.integers(1, 9),
    measure=st.sampled_from(MEASURES), slack=st.integers(0, 20), normalize=st.booleans(),
    engine=engines,
)  # fmt: skip


@slowly
@given(asked=searches)
def test_nearest_is_brute_force(asked: Search) -> None:
    series = walks(asked.rows, asked.m, asked.seed).round(asked.digits).astype(asked.dtype)
    query = walks(1, asked.n, asked.seed + 1)[0].round(asked.digits)
    band = abs(asked.n - asked.m) + asked.slack
    options: dict[str, Any] = {"measure": asked.measure, "epsilon": 0.5, "band": band}
    collection = Collection(series, normalize=asked.normalize, engine=asked.engine)

    answer = collection.nearest(query, asked.k, **options)

    assert found(answer) == brute_force(
        series.tolist(), query.tolist(), asked.k, normalized=asked.normalize, **options
    )


FAMILIES: dict[str, NDArray[np.float64]] = {
    "walks": walks(3_000, 24),
    "a high level": 1e6 + walks(3_000, 24) / 1e4,
    "hardly any difference": 1.0 + walks(3_000, 24) * 1e-9,
    "many alike": np.repeat(walks(60, 24), 50, axis=0),
    "beyond float32": walks(3_000, 24) * 1e100,
    "too small to square in float32": walks(3_000, 24) * 1e-40,
    "noise": np.random.default_rng(5).standard_normal((3_000, 24)),
}


@pytest.mark.parametrize("band", [0, 2, 14, None])
@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_and_float32_lose_no_row(family: str, band: int | None) -> None:
    collection = Collection(FAMILIES[family])
    query = FAMILIES[family][1_234] + np.random.default_rng(1).permutation(FAMILIES[family][77]) / 9

    by_bounds = collection.nearest(query, 12, band=band)

    costs = np.empty(3_000)
    collection_rows.exact_costs(
        FAMILIES[family], query, 23 if band is None else band, np.arange(3_000), costs
    )
    order = np.lexsort((np.arange(3_000), np.sqrt(costs)))[:12]
    assert by_bounds.index.tolist() == order.tolist()
    assert by_bounds.distance.tolist() == np.sqrt(costs)[order].tolist()
    assert found(scan_all(collection, query, 12, band=band)) == found(by_bounds)


def test_rows_that_float32_cannot_tell_apart_are_told_apart() -> None:
    # The rows differ by less than float32 resolves, so a search in float32 would choose wrong rows.
    query, dice = walks(1, 40)[0], np.random.default_rng(3)
    series = query + 1.0 + dice.standard_normal((300, 40)) * 1e-8
    costs = np.empty(300)
    collection_rows.exact_costs(series, query, 2, np.arange(300), costs)

    answer = Collection(series).nearest(query, 5, band=2)

    assert answer.index.tolist() == np.argsort(costs)[:5].tolist()
    narrow = np.empty(300)
    collection_rows.exact_costs(
        series.astype("f4"), query.astype("f4").astype(float), 2, np.arange(300), narrow
    )
    assert np.argsort(narrow)[:5].tolist() != answer.index.tolist()


@slowly
@given(seed=st.integers(0, 999), k=st.integers(1, 60), threads=st.integers(2, 5))
def test_threads_change_nothing(seed: int, k: int, threads: int) -> None:
    collection, query = Collection(walks(5_000, 16, seed)), walks(1, 16, seed + 1)[0]

    assert found(collection.nearest(query, k, band=3, threads=threads)) == found(
        collection.nearest(query, k, band=3)
    )
    assert found(scan_all(collection, query, k, band=3, threads=threads)) == found(
        collection.nearest(query, k, band=3)
    )


@pytest.mark.parametrize("k", [4_999, 5_000, 9_999])
def test_threads_may_each_hold_fewer_rows_than_are_wanted(k: int) -> None:
    collection, query = Collection(walks(5_000, 16)), walks(1, 16, 1)[0]

    answer = collection.nearest(query, k, band=3, threads=5)

    assert len(set(answer.index.tolist())) == len(answer) == min(k, 5_000)
    assert found(answer) == found(collection.nearest(query, k, band=3))


@slowly
@given(seed=st.integers(0, 999), k=st.integers(1, 40), fewer=st.integers(1, 40))
def test_the_nearest_of_fewer_are_the_first_of_more(seed: int, k: int, fewer: int) -> None:
    collection, query = Collection(walks(500, 12, seed).round(1)), walks(1, 12, seed + 1)[0]

    more = found(collection.nearest(query, k, band=2))

    assert found(collection.nearest(query, min(k, fewer), band=2)) == more[: min(k, fewer)]


@slowly
@given(seed=st.integers(0, 999), engine=engines, normalize=st.booleans())
def test_the_order_of_rows_does_not_matter(seed: int, engine: str, normalize: bool) -> None:
    series, query = walks(80, 12, seed), walks(1, 12, seed + 1)[0]
    order = np.random.default_rng(seed).permutation(80)

    straight = Collection(series, normalize=normalize, engine=engine).nearest(query, 9, band=2)
    mixed = Collection(series[order], normalize=normalize, engine=engine).nearest(query, 9, band=2)

    assert order[mixed.index].tolist() == straight.index.tolist()
    assert mixed.distance.tolist() == straight.distance.tolist()


@slowly
@given(seed=st.integers(0, 999), place=st.integers(0, 59), dtype=dtypes, engine=engines)
def test_a_cutoff_keeps_what_is_within_it_and_all_of_it(
    seed: int, place: int, dtype: str, engine: str
) -> None:
    collection = Collection(walks(60, 12, seed).round(1).astype(dtype), engine=engine)
    query = walks(1, 12, seed + 1)[0]
    every = found(collection.nearest(query, 60, band=2))
    cutoff = every[place][1]  # a row whose distance equals the cutoff is found too

    within = [match for match in every if match[1] <= cutoff]

    assert found(collection.nearest(query, None, band=2, cutoff=cutoff)) == within
    assert found(collection.nearest(query, 5, band=2, cutoff=cutoff)) == within[:5]


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e13])
@pytest.mark.parametrize("query_size", [1e-30, 1.0, 1e100])
def test_rows_and_query_may_differ_in_magnitude(size: float, query_size: float) -> None:
    series = (walks(70, 12) * size + 3 * size).astype("f4")
    query = walks(1, 12, seed=5)[0] * query_size

    answer = Collection(series).nearest(query, 4, band=2)

    assert found(answer) == brute_force(series.tolist(), query.tolist(), 4, band=2)


def test_nothing_within_a_cutoff_is_an_empty_answer(engine: str) -> None:
    answer = Collection(walks(50, 12), engine=engine).nearest(np.full(12, 99.0), None, cutoff=0.5)

    assert len(answer) == 0


def test_a_row_without_variance_normalises_to_zeros(engine: str) -> None:
    collection = Collection([[5.0, 5.0, 5.0], [1.0, 2.0, 3.0]], normalize=True, engine=engine)

    answer = collection.nearest([7.0, 7.0, 7.0], 2, band=0)

    assert answer.index.tolist() == [0, 1]
    assert answer.distance.tolist() == [0.0, pytest.approx(math.sqrt(3.0))]


@pytest.mark.parametrize("normalize", [False, True])
def test_a_search_leaves_its_query_alone(normalize: bool, engine: str) -> None:
    collection, query = Collection(walks(9, 12), normalize=normalize, engine=engine), walks(1, 12)

    collection.nearest(query[0], 2)

    assert query.tolist() == walks(1, 12).tolist()


def test_a_collection_keeps_its_own_rows() -> None:
    series = walks(40, 12)
    collection = Collection(series)
    expected = found(collection.nearest(series[7], 3))

    series[:] = 0.0

    assert found(collection.nearest(walks(40, 12)[7], 3)) == expected


@slowly
@given(
    seed=st.integers(0, 999), m=st.integers(1, 70), n=st.integers(1, 70), slack=st.integers(0, 9)
)
def test_the_sketch_never_exceeds_the_cost(seed: int, m: int, n: int, slack: int) -> None:
    series, query = walks(20, m, seed).astype("f4"), walks(1, n, seed + 1)[0].astype("f4")
    band, ends = abs(n - m) + slack, collection_sketch.segment_ends(m)
    bounds, costs = np.empty(20, np.float32), np.empty(20)

    envelope = np.stack(normal_forms.envelope_of(query, band, m))
    means = collection_sketch.segment_means(envelope, ends)
    collection_sketch.sketch_bounds(
        collection_sketch.sketch_of(series, ends), ends, *means, 0, bounds
    )

    collection_rows.exact_costs(series, query.astype(float), band, np.arange(20), costs)
    assert (bounds <= costs * (1 + 1e-5) + 1e-9).all()
    if n == m:
        assert tuple(envelope.tolist()) == slow_bounds.envelope(query.tolist(), band)


@slowly
@given(
    seed=st.integers(0, 999), m=st.integers(1, 70), n=st.integers(1, 70), slack=st.integers(0, 40)
)
def test_the_envelope_of_a_row_is_that_of_the_definition(
    seed: int, m: int, n: int, slack: int
) -> None:
    (row,), (query,) = walks(1, m, seed).astype("f4"), walks(1, n, seed + 1).astype("f4")
    band, covered = abs(n - m) + slack, n - n % (LANES_32 // 2)
    room = collection_cascade.envelope_room(n, m, band)
    room[:] = np.nan  # NaN in the result would show that memory was read before it was written

    bound = collection_cascade.bound_of_query(query, row, band, room)

    windows = [row[max(0, i - band) : i + band + 1] for i in range(covered)]
    excesses = [max(q - w.max(), w.min() - q, 0.0) for q, w in zip(query, windows, strict=False)]
    assert bound == pytest.approx(sum(float(x) ** 2 for x in excesses), rel=1e-5)


@slowly
@given(
    values=st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=80),
    wanted=st.integers(1, 80),
)
def test_the_threshold_lets_at_least_the_wanted_through(values: list[float], wanted: int) -> None:
    bounds = np.array(values, np.float32)

    threshold = collection_sketch.near_threshold(bounds, wanted)

    assert (bounds <= threshold).sum() >= min(wanted, bounds.size)


@slowly
@given(seed=st.integers(0, 999), m=st.integers(1, 12), dtype=dtypes)
def test_normal_rows_have_the_bits_of_each_row_alone(seed: int, m: int, dtype: str) -> None:
    series = walks(7, m, seed).astype(dtype)

    assert normal_forms.normal_rows(series).tolist() == [
        normal.normalize(r) for r in series.tolist()
    ]


@pytest.mark.parametrize(
    ("series", "error", "message"),
    [
        ([], ShapeError, "rows is empty"),
        ([[1.0], [1.0, 2.0]], ShapeError, "rows of several lengths"),
        ([1.0, 2.0], ShapeError, r"rows\[0\] has 0 dimensions"),
        ([[1.0, 2.0], [3.0, np.nan]], NotFiniteError, r"rows\[1\] has nan at position 1"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(series: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Collection(series)


@pytest.mark.parametrize(
    ("query", "options", "error"),
    [
        ([], {}, ShapeError),
        ([1.0, np.inf, 2.0], {}, NotFiniteError),
        ([1.0], {"band": 1}, BandError),
        ([1.0, 2.0, 3.0], {"band": -1}, BandError),
        ([1.0, 2.0, 3.0], {"k": 0}, OptionError),
        ([1.0, 2.0, 3.0], {"k": None}, OptionError),
        ([1.0, 2.0, 3.0], {"measure": "lcss"}, OptionError),
        ([1.0, 2.0, 3.0], {"threads": 0}, OptionError),
        ([1.0, 2.0, 3.0], {"cutoff": -1.0}, OptionError),
    ],
)
def test_a_search_that_has_no_meaning_is_refused(query: Any, options: Any, error: Any) -> None:
    with pytest.raises(error):
        Collection([[1.0, 2.0, 3.0]]).nearest(query, **options)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(OptionError, match="engine is 'gpu'"):
        Collection([[1.0]], engine="gpu")


def test_every_compiled_function_releases_the_gil() -> None:
    entries = [
        entry
        for module in (collection_cascade, collection_rows, collection_sketch)
        for entry in vars(module).values()
    ]
    compiled = [entry for entry in entries if hasattr(entry, "targetoptions")]

    assert len(compiled) > 12
    assert all(entry.targetoptions["nogil"] for entry in compiled)
