"""The dashboards in the chart are up to date and break no rule of `dashboard_linting`.

They show every metric, except the metrics in `UNSEEN`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dashboards import board_reader, built_dashboards, built_files, dashboard_linting
from dashboards.board import Board
from midstreamer.telemetry import metrics

UNSEEN = {
    metrics.name(metrics.MEMBERS): "`up` shows the same by component, as the scraper sees it",
}
"""The metrics that no panel shows, each with the reason why not."""


def test_what_the_chart_ships_is_what_is_built() -> None:
    behind = [
        str(path.relative_to(built_dashboards.ROOT))
        for path in built_files.behind(built_dashboards.files())
    ]
    assert behind == [], "these files in the chart are out of date: run make dashboards"


def test_a_file_that_is_left_over_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built_dashboards, "FOLDER", tmp_path)
    old = tmp_path / "midstreamer-old.json"
    old.write_text("{}")
    assert old in built_files.behind(built_dashboards.files())
    assert len(built_files.write(built_dashboards.files())) == len(built_dashboards.boards()) + 1
    assert built_files.behind(built_dashboards.files()) == []


@pytest.mark.parametrize("board", built_dashboards.boards(), ids=lambda board: board.name)
def test_no_rule_complains_about_a_board(board: Board) -> None:
    assert list(map(str, dashboard_linting.complaints([board.read()]))) == []


@pytest.mark.parametrize("board", built_dashboards.boards(), ids=lambda board: board.name)
def test_a_board_is_the_same_each_time_it_is_built(board: Board) -> None:
    assert json.loads(board.text()) == board.read()
    assert board.text() == board.text()


def test_each_board_has_an_identity_of_its_own() -> None:
    identities = [board.uid for board in built_dashboards.boards()]
    assert len(set(identities)) == len(identities)
    assert identities[0] == "midstreamer-fleet"


def test_links_lead_to_boards_that_there_are() -> None:
    identities = {board.uid for board in built_dashboards.boards()}
    led = {
        link["url"].partition("?")[0].removeprefix("/d/")
        for board in built_dashboards.boards()
        for panel in board_reader.panels(board.read())
        for link in panel.json.get("links", [])
    }
    assert led
    assert led <= identities


def test_every_metric_is_on_a_board_or_has_a_reason_not_to_be() -> None:
    asked = " ".join(
        query.text
        for board in built_dashboards.boards()
        for panel in board_reader.panels(board.read())
        for query in panel.queries
    )
    unseen = {
        each.name
        for each in metrics.CATALOGUE
        if not re.search(rf"\b{each.name}(_bucket|_sum|_count)?\b", asked)
    }
    assert unseen == set(UNSEEN)
