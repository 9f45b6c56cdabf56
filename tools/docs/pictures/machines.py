"""Pictures of state machines, drawn from the transition tables that the code runs on.

Each state is a column.  Each pair of states with a transition is a row with one arrow, labelled
with the events that cause the transition.  Lines never cross a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.docs.pictures.drawing import Board

COLUMN, ROW, TOP, BOX_WIDTH, BOX_HEIGHT = 170, 40, 20, 130, 38
LINE = 15


def word(thing: Any) -> str:
    """Return the text by which the picture names a state or an event."""
    return thing.__name__ if isinstance(thing, type) else str(thing)


def arrows(table: Mapping[Any, Mapping[Any, Any]]) -> dict[tuple[str, str], list[str]]:
    """Return the events that lead from one state to another, by (state before, state after)."""
    found: dict[tuple[str, str], list[str]] = {}
    for before, allowed in table.items():
        for event, after in allowed.items():
            found.setdefault((word(before), word(after)), []).append(word(event))
    return found


def draw(title: str, table: Mapping[Any, Mapping[Any, Any]]) -> str:
    """Return a picture of a state machine as SVG, drawn from its table of transitions."""
    states = [word(state) for state in table]
    rows = arrows(table)
    heights = [ROW + LINE * (len(_lines(events)) - 1) for events in rows.values()]
    bottom = TOP + BOX_HEIGHT + sum(heights) + 24
    board = Board(COLUMN * len(states) + 60, bottom, title)
    centre = {state: 30 + COLUMN * (number + 0.5) for number, state in enumerate(states)}
    for state, x in centre.items():
        board.path(f"M{x:g} {TOP + BOX_HEIGHT} L{x:g} {bottom - 10}", dashed=True, arrow=False)
        board.box(x - BOX_WIDTH / 2, TOP, BOX_WIDTH, BOX_HEIGHT, fill="data")
        board.words(x, TOP + 24, state, bold=True, size=14)
    y = float(TOP + BOX_HEIGHT)
    for ((before, after), events), height in zip(rows.items(), heights, strict=True):
        y += height
        _arrow(board, centre[before], centre[after], y, _lines(events))
    return board.svg()


def _lines(events: list[str]) -> list[str]:
    return [", ".join(events[at : at + 3]) for at in range(0, len(events), 3)]


def _arrow(board: Board, start: float, end: float, y: float, lines: list[str]) -> None:
    if start == end:
        hook = COLUMN * 0.28
        board.path(f"M{start:g} {y - 8:g} C {start - hook:g} {y - 14:g},"
                   f" {start - hook:g} {y + 8:g}, {start:g} {y:g}")  # fmt: skip
        x, anchor, y = start - hook - 2, "end", y + 2
    else:
        board.path(f"M{start:g} {y:g} L{end:g} {y:g}")
        x, anchor, y = (start + end) / 2, "middle", y - 5
    for number, line in enumerate(reversed(lines)):
        board.words(x, y - LINE * number, line, size=11, anchor=anchor, backed=True)
