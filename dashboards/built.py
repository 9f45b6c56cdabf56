"""Every board there is, and the files that they are built to."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from dashboards import boards as _boards
from dashboards import folders
from dashboards.board import Board

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "charts/midstreamer/dashboards"
FIRST = "fleet"


@cache
def boards() -> tuple[Board, ...]:
    """The boards of the files below `dashboards/boards`: the one of the fleet, then by title."""
    found = folders.parts(_boards, "BOARD")
    return tuple(sorted(found, key=lambda board: (board.name != FIRST, board.title)))


def files() -> dict[Path, str]:
    """Each file that there should be, with its text."""
    return {FOLDER / f"{board.uid}.json": board.text() for board in boards()}
