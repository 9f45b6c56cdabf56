"""A Parquet file gives the same ticks as a CSV file, and its errors name the row as well."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as files
import pytest

from midstreamer.domain.errors import BadInput, StaleTick
from midstreamer.market import feeds
from tests.support.client_builders import DAY


def a_file(path: Path, **columns: Any) -> Path:
    files.write_table(arrow.table(columns), path)
    return path


@pytest.mark.parametrize(
    "times",
    [
        [DAY, 2 * DAY],
        [date(1970, 1, 2), date(1970, 1, 3)],
        ["1970-01-02", "1970-01-03T00:00:00Z"],
        arrow.array([DAY // 1000, 2 * DAY // 1000], arrow.timestamp("ms")),
        arrow.array([DAY * 1000, 2 * DAY * 1000], arrow.timestamp("ns", tz="UTC")),
        [datetime(1970, 1, 2, tzinfo=UTC), datetime(1970, 1, 3, tzinfo=UTC)],
    ],
)
def test_times_of_every_usual_type_are_read(tmp_path: Path, times: Any) -> None:
    path = a_file(tmp_path / "a.parquet", time=times, series=["u/a", "u/a"], value=[1, 2.5])
    table = feeds.read(path)
    assert table.time.tolist() == [DAY, 2 * DAY]
    assert table.value.tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"time": [1], "series": ["a"]}, "no column 'value'"),
        ({"time": [1.5], "series": ["a"], "value": [1.0]}, "column time is double"),
        ({"time": [1], "series": ["a"], "value": [None]}, "row 1: a cell is empty"),
        ({"time": [1, 2], "series": ["a", "a"], "value": [1.0, float("nan")]}, "row 2: .* is nan"),
        ({"time": [1], "series": ["a"], "value": ["x"]}, "row 1: .* is 'x', not a number"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = a_file(tmp_path / "bad.parquet", **columns)
    with pytest.raises(BadInput, match=f"bad.parquet: {message}"):
        feeds.read(path)


def test_rows_out_of_order_are_named(tmp_path: Path) -> None:
    path = a_file(tmp_path / "a.parquet", time=[2, 1], series=["a", "a"], value=[1.0, 1.0])
    with pytest.raises(StaleTick, match=r"a.parquet: row 2: default/a"):
        feeds.read(path)


def test_what_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("time,series,value\n")
    with pytest.raises(BadInput, match="not a readable Parquet file"):
        feeds.read(path)
