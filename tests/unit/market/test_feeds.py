"""Reading ticks from files and streams; each kind of bad input has its own error."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.errors import BadInput, Conflict, StaleTick
from midstreamer.domain.series import Tick
from midstreamer.market import feeds, tick_rows
from tests.support.client_builders import DAY, a_csv


def test_a_file_is_merged_over_its_series_in_time_order(tmp_path: Path) -> None:
    path = a_csv(tmp_path / "a.csv", "1,b,1.5", "3,b,2.5", "1,a,7", "2,a,8")
    table = feeds.read(path)
    assert table.series == ("default/a", "default/b")
    assert [(step.time, [tick.value for tick in step.ticks]) for step in table.steps()] == [
        (1, [7.0, 1.5]),
        (2, [8.0]),
        (3, [2.5]),
    ]


def test_times_are_iso_or_microseconds(tmp_path: Path) -> None:
    lines = ("1970-01-02,u/a,1", "1970-01-03T01:00:00+01:00,u/a,2", "259200000000,u/a,3")
    times = feeds.read(a_csv(tmp_path / "a.csv", *lines)).time.tolist()
    assert times == [DAY, 2 * DAY, 3 * DAY]


def test_a_gap_is_fine(tmp_path: Path) -> None:
    path = a_csv(tmp_path / "a.csv", "1,a,1", "1,b,1", "2,b,2", "9,a,3")
    assert [len(step.ticks) for step in feeds.read(path).steps()] == [2, 1, 1]


def test_the_same_tick_again_is_dropped(tmp_path: Path) -> None:
    assert len(feeds.read(a_csv(tmp_path / "a.csv", "1,a,1.0", "1,a,1.00", "2,a,2"))) == 2


@pytest.mark.parametrize(
    ("lines", "kind", "message"),
    [
        (["1,a,1", "2,a,nan"], BadInput, ":3: value of default/a is nan, not a finite number"),
        (["1,a,inf"], BadInput, ":2: value of default/a is inf, not a finite"),
        (["1,a,"], BadInput, ":2: value of default/a is empty; leave the line out when there is"),
        (["1,a,x7"], BadInput, ":2: value of default/a is 'x7', not a number"),
        (["1,a"], BadInput, ":2: 2 fields, expected 3"),
        (["1,a,1,2"], BadInput, ":2: 4 fields, expected 3"),
        (["1,a b,1"], BadInput, ":2: series name 'a b'"),
        (["yesterday,a,1"], BadInput, ":2: time 'yesterday' is neither ISO 8601"),
        (["99999999999999999999,a,1"], BadInput, ":2: time '99999999999999999999' is out of range"),
        (["1,a,1", "2,a,2", "1,a,1"], StaleTick, ":4: default/a at .* is older than its tick"),
        (["1,a,1", "1,a,2"], Conflict, ":3: default/a at .* has two values, 1.0 and 2.0"),
        (['1,a,"1'], BadInput, ":2: unexpected end of data"),
    ],
)
def test_a_bad_line_is_named_with_its_place(
    tmp_path: Path, lines: list[str], kind: type[BadInput], message: str
) -> None:
    path = a_csv(tmp_path / "bad.csv", *lines)
    with pytest.raises(kind, match=f"bad.csv{message}"):
        feeds.read(path)


def test_a_wrong_header_is_shown(tmp_path: Path) -> None:
    path = a_csv(tmp_path / "a.csv", "1,a,1", header="when,what")
    with pytest.raises(BadInput, match=r":1: the header must be time,series,value; found 'when,"):
        feeds.read(path)


def test_an_empty_file_has_no_header(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.touch()
    with pytest.raises(BadInput, match="found 'nothing'"):
        feeds.read(path)


def test_an_absent_file_and_a_binary_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none.csv: no such file"):
        feeds.read(tmp_path / "none.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"time,series,value\n\xff\xfe")
    with pytest.raises(BadInput, match="is not UTF-8"):
        feeds.read(binary)


def test_lines_that_come_one_by_one_give_steps_as_soon_as_they_are_over() -> None:
    lines = io.StringIO("time,series,value\n1,a,1\n1,b,2\n2,a,3\n")
    steps = feeds.steps(feeds.csv_ticks(lines))
    assert next(steps) == feeds.Step(1, (Tick("default/a", 1, 1.0), Tick("default/b", 1, 2.0)))
    assert [step.time for step in steps] == [2]


def test_ticks_that_go_back_in_time_are_refused() -> None:
    with pytest.raises(StaleTick, match=r"u/b at .* older than the tick before it"):
        list(feeds.steps([Tick("u/a", 5, 1.0), Tick("u/b", 4, 1.0)]))


def test_two_values_at_one_time_are_refused() -> None:
    with pytest.raises(Conflict, match=r"u/a at .* has two values, 1\.0 and 2\.0"):
        list(feeds.steps([Tick("u/a", 5, 1.0), Tick("u/a", 5, 2.0)]))


def test_a_value_that_is_no_number_is_refused_from_any_iterable() -> None:
    with pytest.raises(BadInput, match=r"u/a at .*: nan is not finite"):
        list(feeds.steps([Tick("u/a", 5, float("nan"))]))


ROWS = st.dictionaries(
    st.tuples(st.integers(-50, 50), st.sampled_from(["u/a", "u/b", "v/c"])),
    st.floats(allow_nan=False, allow_infinity=False),
    max_size=30,
)


@given(ROWS)
def test_a_table_and_a_stream_of_the_same_ticks_give_the_same_steps(
    ticks: dict[tuple[int, str], float],
) -> None:
    ordered = sorted(Tick(name, time, value) for (time, name), value in ticks.items())
    by_time = sorted(ordered, key=lambda tick: tick.time)
    lines = [f"{tick.time},{tick.series},{tick.value!r}" for tick in ordered]
    text = io.StringIO("\n".join(["time,series,value", *lines]))
    table = feeds.gather(feeds.csv_rows(text, "memory"), "memory:")
    assert list(table.steps()) == list(feeds.steps(by_time))
    assert sum(map(len, table.columns())) == len(ticks)


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_reads_back_as_itself(moment: datetime) -> None:
    time = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert tick_rows.instant_of(tick_rows.instant(time)) == time


def test_a_time_beyond_the_calendar_is_shown_as_its_number() -> None:
    assert tick_rows.instant(2**63 - 1) == str(2**63 - 1)


def test_a_table_is_cut_by_time_and_by_series(tmp_path: Path) -> None:
    table = feeds.read(a_csv(tmp_path / "a.csv", "1,a,1", "2,a,2", "2,b,3", "3,b,4"))
    assert table.between(2, 3).value.tolist() == [2.0, 3.0]
    assert table.only(["default/b"]).value.tolist() == [3.0, 4.0]
    with pytest.raises(BadInput, match="default/z is not in this data, which holds default/a"):
        table.only(["default/z"])
