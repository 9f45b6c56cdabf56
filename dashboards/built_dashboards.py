"""All dashboards, and the JSON files that are built from them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from dashboards import boards as _boards
from dashboards import built_files
from dashboards.board import Board

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "charts/midstreamer/dashboards"
FIRST = "fleet"


@cache
def boards() -> tuple[Board, ...]:
    """Return all dashboards of `dashboards/boards`: Fleet first, then the others by title."""
    found = built_files.parts(_boards, "BOARD")
    return tuple(sorted(found, key=lambda board: (board.name != FIRST, board.title)))


def files() -> dict[Path, str]:
    """Return the path and the text of the JSON file of every dashboard."""
    return {FOLDER / f"{board.uid}.json": board.text() for board in boards()}
