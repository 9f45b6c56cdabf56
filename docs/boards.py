"""The reference of boards: what each answers, panel by panel, with its picture."""

from __future__ import annotations

from collections.abc import Iterator

from dashboards import built, panels, reading, units
from dashboards.board import Board

INTRO = """Each board is a file of `dashboards/boards`; `make dashboards` builds them into the
chart. A row is titled with the question that its panels answer. In Grafana the corner of a panel
says what it shows, what is bad and what to do. Pictures are drawn from a real fleet on one machine,
under a small load, by `make dashboards-live` and `make dashboards-pictures`; they are simpler than
Grafana's. [Observe](../how-to/observe.md) says how to get the boards into Grafana, and which one to
open for which question.
"""
KINDS = {"timeseries": "over time", "stat": "now", "heatmap": "spread", "table": "table"}
UNITS = {
    panels.SECONDS: "seconds",
    panels.MILLISECONDS: "milliseconds",
    panels.BYTES: "bytes",
    panels.SHARE: "share",
    panels.PER_S: "per second",
    panels.BYTES_PER_S: "bytes per second",
    panels.COUNT: "number",
    panels.PLAIN: "number",
}


def page(note: str) -> str:
    """The whole page."""
    boards = built.boards()
    rows = "".join(
        f"| [{board.title}](#{_anchor(board.title)}) | {board.says} |\n" for board in boards
    )
    index = f"| board | what it is for |\n|---|---|\n{rows}"
    return "\n".join([note, "# Boards\n", INTRO, index, *map(_board, boards)])


def _board(board: Board) -> str:
    read = board.read()
    picture = f"![The board {board.title}](../pictures/boards/{board.name}.png)"
    parts = [f"## {board.title}\n\n{board.says} Its identity is `{board.uid}`.\n"]
    for question in reading.rows(read):
        several = [panel for panel in reading.panels(read) if panel.row == question]
        parts.append(f"**{question}**\n\n" + "".join(_rows(several)))
    return "\n".join([*parts, f"{picture}\n"])


def _rows(several: list[reading.Panel]) -> Iterator[str]:
    yield "| panel | shows | limits |\n|---|---|---|\n"
    for panel in several:
        shows = panel.told["description"].partition("\n")[0].replace("|", "\\|")
        yield f"| {panel.title} ({_kind(panel)}) | {shows} | {_limits(panel)} |\n"


def _kind(panel: reading.Panel) -> str:
    if panel.kind == "table":
        return KINDS[panel.kind]
    return f"{UNITS[panel.unit]}, {KINDS[panel.kind]}"


def _limits(panel: reading.Panel) -> str:
    steps = panel.told["fieldConfig"]["defaults"]["thresholds"]["steps"]
    told = [units.said(step["value"], panel.unit) for step in steps if step["value"] is not None]
    return ", ".join(told) or "–"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
