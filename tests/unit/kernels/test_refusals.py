"""Invalid input is refused before any computing; the error names the value and the limit."""

from typing import Any

import numpy as np
import pytest

from midstreamer_kernels import (
    BandError,
    Collection,
    History,
    KernelError,
    Monitor,
    NotFiniteError,
    OptionError,
    QueryTooLongError,
    Run,
    ShapeError,
    dtw,
    errors,
    lcss,
    nearest,
    pairwise,
    similarity,
)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_with_its_first_position(bad: float) -> None:
    with pytest.raises(NotFiniteError, match=r"b has .* at position 2"):
        dtw([1.0, 2.0, 3.0], [1.0, 2.0, bad, bad])


def test_what_cannot_be_squared_is_refused() -> None:
    with pytest.raises(NotFiniteError, match=r"1e\+200 at position 1, beyond 1e\+150"):
        dtw([1.0], [1.0, 1e200])
    with pytest.raises(NotFiniteError, match=r"1e\+60 at position 0, beyond 1e\+15"):
        History([1e60])


def test_a_refused_append_leaves_the_history_as_it_was() -> None:
    history = History([1.0, 2.0])

    with pytest.raises(NotFiniteError, match=r"values has nan at position 1"):
        history.append([3.0, np.nan])

    assert len(history) == 2


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([], "a is empty"),
        ([[1.0], [2.0]], r"a has 2 dimensions, shape \(2, 1\)"),
        (5.0, "a has 0 dimensions"),
        (["one"], "a is not a series of numbers"),
        (["1.5"], "a is not a series of numbers: its type is <U3"),
        ([1j], "a is not a series of numbers: its type is complex128"),
        (np.array(["2026-01-01"], "M8[D]"), "a is not a series of numbers: its type is datetime"),
        ([10**400], "a is not a series of numbers: int too large"),
        (np.ma.masked_array([1.0, 2.0], mask=[False, True]), "a is masked at position 1"),
        ([[1.0], [2.0, 3.0]], "a is not a series of numbers"),
    ],
)
def test_what_is_not_a_series_is_refused(series: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        dtw(series, [1.0])


def test_a_missing_value_is_named_with_its_position() -> None:
    with pytest.raises(NotFiniteError, match="a has nan at position 1"):
        dtw([1.0, None], [1.0])  # type: ignore[arg-type]
    with pytest.raises(NotFiniteError, match="nan at position 2 of the stream"):
        Monitor([[1.0]], threshold=1).extend([1.0, 2.0, None])  # type: ignore[arg-type]


def test_rows_that_are_masked_or_complex_are_refused() -> None:
    masked = np.ma.masked_array([1.0, 2.0], mask=[True, False])
    for rows in ([masked], np.ma.masked_array([[1.0, 2.0]], mask=[[True, False]])):
        with pytest.raises(ShapeError, match="is masked at position 0"):
            pairwise(rows)
    with pytest.raises(ShapeError, match=r"rows\[0\] is not a series .* complex128"):
        Collection([[1.0, 2j]])


@pytest.mark.parametrize(
    ("band", "message"),
    [(-1, "band is -1"), (1, "band 1 is narrower .* 4 and 2: give at least 2"), (1.5, "whole")],
)
def test_a_band_that_leaves_no_path_is_refused(band: int | None, message: str) -> None:
    with pytest.raises(BandError, match=message):
        dtw([1.0, 2.0, 3.0, 4.0], [1.0, 2.0], band=band)


def test_a_query_longer_than_the_history_is_refused() -> None:
    with pytest.raises(QueryTooLongError, match="3 points, the history 2"):
        History([1.0, 2.0]).search([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0: give at least 1"),
        ({"k": 1.5}, "k is 1.5: give a whole number"),
        ({"k": None}, "k is None"),
        ({"step": 0}, "step is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": 1000}, "threads is 1000: give at most 256"),
        ({"exclusion": -1}, "exclusion is -1: give at least 0"),
        ({"cutoff": -1.0}, "cutoff is -1.0: give 0 or more"),
        ({"cutoff": np.nan}, "cutoff is nan"),
        ({"cutoff": "far"}, "cutoff is 'far': give a number"),
        ({"measure": "edit"}, "measure is 'edit': give one of dtw, lcss"),
        ({"measure": "lcss"}, "lcss needs epsilon"),
        ({"measure": "lcss", "epsilon": -1}, "epsilon is -1"),
        ({"measure": ["dtw"]}, r"measure is \['dtw'\]: give one of"),
        ({"cutoff": "1.0"}, "cutoff is '1.0': give a number"),
        ({"cutoff": 10**400}, "cutoff is 1000.*: give a number"),
        ({"step": 2**63}, "step is .*: give at most"),
        ({"until": 2.5}, "until is 2.5: give a whole number"),
        ({"until": np.nan}, "until is nan: give a whole number"),
        ({"first": "1"}, "first is '1': give a whole number"),
        ({"last": 2**63}, "last is .*: give at most"),
        ({"normalize": "no"}, "normalize is 'no': give True or False"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        History([1.0, 2.0, 3.0]).search([1.0, 2.0], **options)


def test_an_unknown_engine_is_refused_where_it_is_named() -> None:
    with pytest.raises(OptionError, match="engine is 'gpu': give one of auto, numba, wasm"):
        History(engine="gpu")
    with pytest.raises(OptionError, match="engine"):
        nearest([Run(History([1.0]))], [1.0], 1, engine="gpu")
    with pytest.raises(OptionError, match=r"engine is \[\]"):
        dtw([1.0], [1.0], engine=[])  # type: ignore[arg-type]


def test_more_matches_than_can_be_counted_are_all_there_are() -> None:
    assert len(History([1.0, 2.0, 3.0]).search([1.0, 2.0], 2**70)) == 2


def test_the_runs_of_a_search_are_checked_as_its_options_are() -> None:
    history: Any = History([1.0, 2.0])
    with pytest.raises(OptionError, match=r"runs\[0\] is .*: give a Run of a History"):
        nearest([history], [1.0], 1)
    with pytest.raises(OptionError, match=r"until is 1.5: give a whole number"):
        nearest([Run(history, until=1.5)], [1.0], 1)  # type: ignore[arg-type]
    assert len(nearest(iter([Run(history)]), [1.0], 2)[0]) == 2  # type: ignore[arg-type]


def test_a_history_of_another_type_or_place_is_refused() -> None:
    with pytest.raises(OptionError, match="dtype is int64"):
        History(dtype="int64")
    with pytest.raises(OptionError, match="start is -1"):
        History(start=-1)
    with pytest.raises(OptionError, match=r"start is .*: give at most"):
        History(start=2**62)
    for dtype in ("foo", None):
        with pytest.raises(OptionError, match="dtype is .*: give one of float32, float64"):
            History(dtype=dtype)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="index is 0.5: give a whole number"):
        History([1.0]).window(0.5, 1)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"points \[0, 9\) are not in \[0, 1\)"):
        History([1.0]).window(0, 9)


def test_a_comparison_by_lcss_needs_epsilon() -> None:
    with pytest.raises(OptionError, match="epsilon"):
        similarity([1.0], [1.0], measure="lcss")
    with pytest.raises(OptionError, match="epsilon is -1"):
        lcss([1.0], [1.0], epsilon=-1)
    with pytest.raises(OptionError, match="lcss needs epsilon"):
        lcss([1.0], [1.0], epsilon=None)  # type: ignore[arg-type]


def test_points_are_kept_in_the_order_of_bytes_of_this_machine() -> None:
    history = History([1.0, 2.0, 4.0], dtype=">f4")

    assert history.search([2.0, 4.0], normalize=False).index.tolist() == [1]


def test_progress_that_cannot_be_called_is_refused_before_computing() -> None:
    with pytest.raises(OptionError, match="progress is 5: give a function"):
        pairwise([[1.0], [2.0]], progress=5)  # type: ignore[arg-type]


def test_what_a_monitor_is_given_is_checked_by_name() -> None:
    with pytest.raises(ShapeError, match="pattern 0 is not a series of numbers"):
        Monitor([[[1.0, 2.0], [3.0]]], threshold=1)
    with pytest.raises(OptionError, match="threshold is 1000.*: give a number"):
        Monitor([[1.0]], threshold=10**400)
    with pytest.raises(ShapeError, match="value is not a number: int too large"):
        Monitor([[1.0]], threshold=1).push(10**400)


def test_every_error_has_a_code_of_its_own() -> None:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in found if issubclass(kind, KernelError)]

    assert len({kind.code for kind in kinds}) == len(kinds) >= 12
