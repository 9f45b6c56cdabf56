"""The queries of all dashboards go to a fake Prometheus; its answers are checked and drawn."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from dashboards import board_reader, built_dashboards, live, panel_drawing, pictures, query_results
from dashboards.query_results import Answer, Kept, Line
from tests.support.prometheus import Prometheus, Sample, Series

BEGIN_S, END_S = 1000.0, 1030.0


@dataclass
class Everything:
    """A fake Prometheus that has one series for each query, and records the queries.

    A query that contains `empty` gets no data.
    """

    empty: str = "nothing is empty"
    asked: list[str] = field(default_factory=list)

    def _labels(self, expression: str) -> dict[str, str]:
        return {"pod": "a1", "le": "+Inf", "slo": "latency", "universe": "plant", "pool": "p"}

    async def query(self, expression: str, *, at_s: float | None = None) -> list[Sample]:
        self.asked.append(expression)
        return [] if self.empty in expression else [Sample(self._labels(expression), 1.0)]

    async def query_range(
        self, expression: str, *, begin_s: float, end_s: float, step_s: float
    ) -> list[Series]:
        self.asked.append(expression)
        if self.empty in expression:
            return []
        return [Series(self._labels(expression), (begin_s, end_s), (1.0, 2.0))]

    async def label_values(self, label: str, *selectors: str) -> list[str]:
        self.asked += selectors
        return ["local"]


async def run(asked: Everything) -> Kept:
    """Send the queries of all dashboards to the fake Prometheus; return the answers."""
    return await live.everything(cast("Prometheus", asked), BEGIN_S, END_S)


async def test_every_query_and_variable_is_asked_with_values_for_its_variables() -> None:
    asked = Everything()
    kept = await run(asked)
    queries = sum(
        len(panel.queries)
        for board in built_dashboards.boards()
        for panel in board_reader.panels(board.read())
    )
    variables = sum(
        len(list(board_reader.variables(board.read()))) for board in built_dashboards.boards()
    )
    assert len(kept.answers) == queries + variables
    assert all(each.has_data for each in kept.answers)
    assert [text for text in asked.asked if "$" in text] == []


async def test_a_query_without_data_is_reported_with_its_text() -> None:
    kept = await run(Everything(empty="midstreamer_dtw_latency_ms"))
    titles = {board.uid: board.title for board in built_dashboards.boards()}
    lines = query_results.table(kept.answers, titles).splitlines()
    silent = [line for line in lines if line.startswith("no data: ")]
    assert [line.partition(": ")[2].partition(":")[0] for line in silent] == [
        "Agents and kernels / Search time in the kernels",
        "Agents and kernels / Search time in the kernels, by agent, 99 %",
    ]
    assert "midstreamer_dtw_latency_ms_bucket" in silent[0]


async def test_a_query_that_shows_only_its_default_zero_is_quiet() -> None:
    kept = await run(Everything(empty="midstreamer_task_failures_total{"))
    quiet = [each.panel for each in kept.answers if each.quiet]
    assert quiet == ["Failed background tasks"]


def test_nan_and_infinity_are_no_data() -> None:
    line = Line({}, (1.0, 2.0), (math.nan, math.inf))
    assert not Answer("b", "p", "q", "", (line,)).has_data
    assert not Answer("b", "p", "q", "", ()).has_data


async def test_a_run_that_was_kept_is_read_as_it_was(tmp_path: Path) -> None:
    kept = await run(Everything())
    query_results.write(tmp_path / "a/answers.json", kept)
    assert query_results.read(tmp_path / "a/answers.json") == kept


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"pod": "a"}, 'up{pod=~"a",pods="$pods"}'),
        ({"pod": "a", "pods": "b"}, 'up{pod=~"a",pods="b"}'),
    ],
)
def test_a_variable_is_not_taken_for_the_beginning_of_another(
    values: dict[str, str], text: str
) -> None:
    assert board_reader.filled('up{pod=~"${pod}",pods="$pods"}', values) == text


def test_a_line_is_named_as_its_legend_says() -> None:
    line = Line({"pod": "a1", "queue": "reads"}, (), ())
    assert panel_drawing.named("{{pod}} {{ queue }}", line) == "a1 reads"
    assert panel_drawing.named("{{kind}}", line) == "nothing counted"


@pytest.mark.parametrize(
    ("steps", "value", "colour"),
    [
        ([{"value": None, "color": "green"}, {"value": 1, "color": "red"}], 0.9, "green"),
        ([{"value": None, "color": "green"}, {"value": 1, "color": "red"}], 1.0, "red"),
        ([{"value": None, "color": "red"}, {"value": 0, "color": "green"}], -0.1, "red"),
        ([{"value": None, "color": "red"}, {"value": 0, "color": "green"}], 0.0, "green"),
    ],
)
def test_a_value_has_the_colour_of_the_limit_below_it(
    steps: list[dict[str, Any]], value: float, colour: str
) -> None:
    described = {"fieldConfig": {"defaults": {"thresholds": {"steps": steps}}}}
    panel = board_reader.Panel("", described)
    assert panel_drawing.colour_of(value, panel) == panel_drawing.STEPS[colour]


@pytest.mark.slow
async def test_boards_are_drawn_with_data_and_without() -> None:
    board = next(each for each in built_dashboards.boards() if each.name == "certificates")
    kept = await run(Everything(empty="midstreamer_operator_runs_total"))
    with Image.open(io.BytesIO(pictures.draw(board, kept))) as image:
        assert image.format == "PNG"
        assert image.width > 800


@pytest.mark.parametrize("board", built_dashboards.boards(), ids=lambda board: board.name)
def test_each_board_has_a_picture_that_is_small(board: Any) -> None:
    assert pictures.path(board).stat().st_size <= pictures.BYTES_MOST, (
        "the picture is too large: run make dashboards-pictures"
    )


def test_each_picture_has_a_board() -> None:
    kept = {each.name for each in pictures.FOLDER.glob("*")}
    assert kept == {pictures.path(board).name for board in built_dashboards.boards()}
