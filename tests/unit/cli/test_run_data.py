"""How `run` splits the data into history and live part, and names the universe."""

from __future__ import annotations

from pathlib import Path

import pytest

from midstreamer.cli import run_work
from midstreamer.cli.run_work import Dates, Selection, jobs
from midstreamer.domain.errors import BadInput
from midstreamer.market import feeds
from midstreamer.market.replay_tally import Tally
from tests.support.client_builders import DAY, a_csv


def a_file(tmp_path: Path, days: int = 10, names: tuple[str, ...] = ("u/a", "u/b")) -> str:
    lines = [f"{day * DAY},{name},{day + 1}" for day in range(days) for name in names]
    return str(a_csv(tmp_path / "prices.csv", *lines))


def test_half_of_a_file_is_history_unless_told_otherwise(tmp_path: Path) -> None:
    (job,) = jobs(Selection(data=(a_file(tmp_path),)))
    assert (len(job.history), len(job.live)) == (10, 10)
    assert job.specification.universe == "u"
    assert job.table.series == ("u/a", "u/b")


def test_another_start_gives_another_universe(tmp_path: Path) -> None:
    (job,) = jobs(Selection(data=(a_file(tmp_path),), start=3 * DAY, stop=5 * DAY))
    assert (len(job.history), len(job.live)) == (6, 4)
    assert job.specification.universe == "u:1970-01-04"
    assert job.table.series == ("u:1970-01-04/a", "u:1970-01-04/b")


def test_an_explicit_default_start_gives_the_default_universe(tmp_path: Path) -> None:
    (job,) = jobs(Selection(data=(a_file(tmp_path),), start=5 * DAY))
    assert job.specification.universe == "u"


def test_other_series_are_another_universe_whatever_their_order(tmp_path: Path) -> None:
    name = a_file(tmp_path, names=("u/a", "u/b", "u/c"))
    (job,) = jobs(Selection(data=(name,), series=("c", "u/a")))
    (two,) = jobs(Selection(data=(name,), series=("a", "c")))
    assert job.specification.universe == two.specification.universe == "u:a-c"
    assert job.table.series == ("u:a-c/a", "u:a-c/c")


def test_a_long_selection_is_named_by_its_digest(tmp_path: Path) -> None:
    names = tuple(f"u/name{number}" for number in range(12))
    (job,) = jobs(Selection(data=(a_file(tmp_path, names=names),), series=names))
    assert len(job.specification.universe) == len("u:") + 16


def test_window_and_horizon_are_taken(tmp_path: Path) -> None:
    (job,) = jobs(Selection(data=(a_file(tmp_path),), window=8, horizon=2))
    assert (job.specification.window, job.specification.horizon) == (8, 2)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            {"start": 99 * DAY},
            r"no tick from 1970-04-10 .*: its ticks are from 1970-01-01 to 1970-01-10",
        ),
        ({"series": ("z",)}, "series z is not in this data, which holds u/a, u/b"),
        ({"window": 2}, r"specification\.window = 2 is outside 4 to 4096"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    tmp_path: Path, selection: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        jobs(Selection(data=(a_file(tmp_path),), **selection))  # type: ignore[arg-type]


def test_a_file_without_ticks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the file has no ticks"):
        jobs(Selection(data=(str(a_csv(tmp_path / "none.csv")),)))


def test_dates_are_known_by_position(tmp_path: Path) -> None:
    dates = Dates(feeds.read(Path(a_file(tmp_path))))
    assert dates("u/a", 3) == 3 * DAY
    assert dates("u/a", 10) is None
    assert dates("u/z", 0) is None


def test_too_few_verdicts_are_not_judged(tmp_path: Path) -> None:
    (job,) = jobs(Selection(data=(a_file(tmp_path),)))
    assert run_work.judgement(job, Tally()) is None
