"""Columns and windows: the error names the first wrong tick, with its place and value."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain import series
from midstreamer.domain.errors import BadInput, StaleTick

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(values=st.lists(finite, max_size=50))
def test_a_column_gives_back_what_was_put_in(values: list[float]) -> None:
    column = series.column("u/s", range(len(values)), values)
    assert len(column) == len(values)
    assert column.values_array().tolist() == values
    assert column.times_array().tolist() == list(range(len(values)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_named_with_its_time(value: float) -> None:
    with pytest.raises(BadInput, match=rf"u/s at 20: value {value}"):
        series.column("u/s", [10, 20, 30], [1.0, value, 3.0])


@pytest.mark.parametrize("times", [[10, 10, 30], [10, 5, 30]])
def test_time_that_does_not_rise_is_named(times: list[int]) -> None:
    with pytest.raises(StaleTick, match=f"u/s at {times[1]}: not later .* 10"):
        series.column("u/s", times, [1.0, 2.0, 3.0])


def test_arrays_of_two_lengths_are_refused() -> None:
    with pytest.raises(BadInput, match="must be two arrays of equal length"):
        series.check_column(series.Column("u/s", bytes(16), bytes(8)))


@pytest.mark.parametrize("name", ["", "a/b/c", "a b", "/a", "a/", "a" * 200, "a\n"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="series name"):
        series.qualified(name)


def test_a_bare_name_belongs_to_the_default_universe() -> None:
    assert series.qualified("AAPL") == "default/AAPL"
    assert series.universe_of(series.qualified("sp500/AAPL")) == "sp500"


def test_a_window_names_its_first_wrong_value() -> None:
    with pytest.raises(BadInput, match="window value 1 is nan"):
        series.window([1.0, math.nan], series="u/s")


def test_a_window_is_read_only_bytes() -> None:
    window = series.window(np.arange(4.0), series="s", time=3)
    assert window.series == "default/s"
    assert window.array().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert not window.array().flags.writeable


def test_every_zero_is_positive() -> None:
    assert series.window([-0.0, 1.0]).values == series.window([0.0, 1.0]).values
    assert series.column("u/a", [1], [-0.0]).values == bytes(8)


_TIMES = st.one_of(st.integers(-5, 5), st.sampled_from([-(2**63), 2**63 - 1]))
_VALUES = st.sampled_from([1.0, 2.5, -0.0, 0.0, math.nan, math.inf])
_COLUMNS = st.builds(
    lambda name, times, values: series.Column(
        name,
        np.array(times, "<i8").tobytes(),
        np.resize(np.array(values), len(times)).tobytes(),
    ),
    st.sampled_from(["u/a", "u/b", "bare", "no name"]),
    st.lists(_TIMES, min_size=1, max_size=4),
    st.lists(_VALUES, min_size=1, max_size=4),
)


@given(st.lists(_COLUMNS, max_size=5))
def test_many_columns_are_checked_as_each_by_itself(columns: list[series.Column]) -> None:
    try:
        wanted = tuple(series.check_column(column) for column in columns)
    except BadInput:
        with pytest.raises(BadInput):
            series.check_columns(columns)
    else:
        assert series.check_columns(columns) == wanted


def test_a_column_without_a_tick_is_refused() -> None:
    full = series.column("u/a", [1], [1.0])
    with pytest.raises(BadInput, match="'u/b': it has no tick; leave the column out"):
        series.check_columns([full, series.Column("u/b", b"", b"")])


@pytest.mark.parametrize(
    "name", ["../x", "a/..", "..", ".", "-/-", "-", "a/-", "-rf", "a/-rf", "a/^", "=/a", "_/:"]
)
def test_a_name_that_means_something_to_a_file_system_or_a_command_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="at least one letter or digit, not beginning with -"):
        series.qualified(name)


@pytest.mark.parametrize("name", ["^GSPC", "sp500/^GSPC", "BRK-B", "EURUSD=X", "a:b/c", ".x", "_1"])
def test_names_of_markets_are_names(name: str) -> None:
    assert series.qualified(name).endswith(name)


def test_a_name_of_a_megabyte_is_quoted_in_part() -> None:
    with pytest.raises(BadInput, match=r"1,000,000 in all") as caught:
        series.qualified("x" * 1_000_000)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "time",
    [-(2**63), 2**63 - 1, series.TIME_MIN - 1, series.TIME_MAX + 1, 1_600_000_000_000_000_000],
)
def test_a_time_outside_the_years_is_told_the_true_range(time: int) -> None:
    with pytest.raises(BadInput, match=f"time {time} is out of range; .*years 1 to 9999"):
        series.column("u/s", [time], [1.0])


def test_a_time_of_more_than_64_bits_is_an_error_of_ours() -> None:
    with pytest.raises(BadInput, match="a time does not fit 64 bits"):
        series.column("u/s", [2**63], [1.0])


def test_the_first_and_the_last_time_fit_into_one_column() -> None:
    column = series.column("u/s", [series.TIME_MIN, series.TIME_MAX], [1.0, 2.0])
    assert len(column) == 2


@pytest.mark.parametrize("times", [[-(2**63), 1], [-(2**63), 2**63 - 1]])
def test_times_that_rise_by_more_than_64_bits_are_not_called_stale(times: list[int]) -> None:
    column = series.Column("u/s", np.array(times, "<i8").tobytes(), bytes(16))
    with pytest.raises(BadInput, match="is out of range"):
        series.check_column(column)
