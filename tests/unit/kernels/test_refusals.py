"""Wrong input is refused before any computing, by name, with what was seen and what is allowed."""

from typing import Any

import numpy as np
import pytest

from midstreamer_kernels import (
    BandError,
    History,
    KernelError,
    NotFiniteError,
    OptionError,
    QueryTooLongError,
    Run,
    ShapeError,
    dtw,
    errors,
    lcss,
    nearest,
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
        ([[1.0], [2.0, 3.0]], "a is not a series of numbers"),
    ],
)
def test_what_is_not_a_series_is_refused(series: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        dtw(series, [1.0])


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


def test_a_history_of_another_type_or_place_is_refused() -> None:
    with pytest.raises(OptionError, match="dtype is int64"):
        History(dtype="int64")
    with pytest.raises(OptionError, match="start is -1"):
        History(start=-1)
    with pytest.raises(OptionError, match=r"points \[0, 9\) are not in \[0, 1\)"):
        History([1.0]).window(0, 9)


def test_a_comparison_by_lcss_needs_epsilon() -> None:
    with pytest.raises(OptionError, match="epsilon"):
        similarity([1.0], [1.0], measure="lcss")
    with pytest.raises(OptionError, match="epsilon is -1"):
        lcss([1.0], [1.0], epsilon=-1)


def test_every_error_has_a_code_of_its_own() -> None:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in found if issubclass(kind, KernelError)]

    assert len({kind.code for kind in kinds}) == len(kinds) >= 12
