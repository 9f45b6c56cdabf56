"""The readers of the data sets: tested on small files in the same format, and on the real files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from midstreamer.domain.errors import BadInput
from midstreamer.market import datasets, tick_rows


def a_cache(folder: Path) -> Path:
    stocks, load = folder / datasets.SP500.file, folder / datasets.LOAD.file
    for path in (stocks, load):
        path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(stocks, "wt", encoding="utf-8") as file:
        file.write("Date,AAPL,AMD\n1990-01-02,0.264,4.125\n1990-01-03,0.266,\n")
    load.write_text("ts,y\n2012-01-01 00:00:00,1300.5\n2012-01-01 01:00:00,1404.25\n")
    return folder


def test_stocks_are_one_series_a_column_and_an_empty_cell_is_a_gap(tmp_path: Path) -> None:
    table = datasets.load(datasets.SP500, a_cache(tmp_path))
    assert table.series == ("sp500/AAPL", "sp500/AMD")
    assert table.value.tolist() == [0.264, 4.125, 0.266]


def test_load_is_hourly(tmp_path: Path) -> None:
    table = datasets.load(datasets.LOAD, a_cache(tmp_path))
    assert table.series == ("load/ELEC",)
    assert [tick_rows.instant(time) for time in table.time] == ["2012-01-01", "2012-01-01 01:00:00"]


def test_absent_data_names_the_place_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'sp500' is not at .*sp500_dataset.*run `make setup`"):
        datasets.load(datasets.SP500, tmp_path)


def test_the_folder_is_named_by_the_environment_or_found_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert datasets.folder({"MIDSTREAMER_DATA": "/else"}) == Path("/else")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".cache" / "data").mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert datasets.folder({}) == tmp_path / ".cache" / "data"


@pytest.mark.parametrize("dataset", datasets.DATASETS.values(), ids=lambda each: each.name)
def test_the_usual_replay_lies_inside_the_real_data(dataset: datasets.Dataset) -> None:
    if not (datasets.folder() / dataset.file).is_file():
        pytest.skip("the cache of the data sets is not on this machine")
    table = datasets.load(dataset)
    live = table.between(
        tick_rows.instant_of(dataset.start),
        tick_rows.instant_of(dataset.stop) if dataset.stop else None,
    )
    assert 0 < len(live) < len(table) / 2
    assert {name.partition("/")[0] for name in table.series} == {dataset.specification.universe}
