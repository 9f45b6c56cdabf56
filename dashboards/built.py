"""Every board there is, and the files that they are built to."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from dashboards import boards as _boards
from dashboards.board import Board

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "charts/midstreamer/dashboards"
FIRST = "fleet"


@cache
def boards() -> tuple[Board, ...]:
    """The boards of the files below `dashboards/boards`: the one of the fleet, then by title."""
    names = [each.name for each in pkgutil.iter_modules(_boards.__path__)]
    made = [importlib.import_module(f"dashboards.boards.{name}") for name in names]
    for name, module in zip(names, made, strict=True):
        if module.BOARD.name != name:
            raise ValueError(
                f"dashboards/boards/{name}.py calls its board {module.BOARD.name!r}:"
                " name it as the file is named"
            )
    found = [module.BOARD for module in made]
    return tuple(sorted(found, key=lambda board: (board.name != FIRST, board.title)))


def files() -> dict[Path, str]:
    """Each file that there should be, with its text."""
    return {FOLDER / f"{board.uid}.json": board.text() for board in boards()}


def behind() -> list[Path]:
    """Files that say something else than the code does, that are missing, or that are left over."""
    wanted = files()
    changed = [
        path
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return changed + sorted(set(FOLDER.glob("*.json")) - set(wanted))


def write() -> list[Path]:
    """Write what is behind, and remove what is left over; the files that changed."""
    wanted, changed = files(), behind()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in changed:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return changed
