"""Generate the reference of dashboards: every row and panel, with a picture per dashboard."""

from __future__ import annotations

from collections.abc import Iterator

from dashboards import board_reader, built_dashboards, panels, value_format
from dashboards.board import Board

INTRO = """Each dashboard is a file in `dashboards/boards`; `make dashboards` builds them into the
chart. The title of a row is the question that its panels answer. In Grafana, the description at the
corner of a panel says what the panel shows, what is bad and what to do. The pictures are drawn by
`make dashboards-live` and `make dashboards-pictures` from a real fleet on one machine, under a
small load. They are simpler than what Grafana draws. [Observe](../how-to/observe.md) says how to
install the dashboards in Grafana, and which dashboard to open for which question.
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
    """Return the reference of dashboards as Markdown; ``note`` is its first line."""
    boards = built_dashboards.boards()
    rows = "".join(
        f"| [{board.title}](#{_anchor(board.title)}) | {board.says} |\n" for board in boards
    )
    index = f"| dashboard | what it shows |\n|---|---|\n{rows}"
    return "\n".join([note, "# Dashboards\n", INTRO, index, *map(_board, boards)])


def _board(board: Board) -> str:
    read = board.read()
    picture = f"![The dashboard {board.title}](../pictures/boards/{board.name}.png)"
    parts = [f"## {board.title}\n\n{board.says} Its uid is `{board.uid}`.\n"]
    for question in board_reader.rows(read):
        several = [panel for panel in board_reader.panels(read) if panel.row == question]
        parts.append(f"**{question}**\n\n" + "".join(_rows(several)))
    return "\n".join([*parts, f"{picture}\n"])


def _rows(several: list[board_reader.Panel]) -> Iterator[str]:
    yield "| panel | shows | limits |\n|---|---|---|\n"
    for panel in several:
        shows = panel.json["description"].partition("\n")[0].replace("|", "\\|")
        yield f"| {panel.title} ({_kind(panel)}) | {shows} | {_limits(panel)} |\n"


def _kind(panel: board_reader.Panel) -> str:
    if panel.kind == "table":
        return KINDS[panel.kind]
    return f"{UNITS[panel.unit]}, {KINDS[panel.kind]}"


def _limits(panel: board_reader.Panel) -> str:
    steps = panel.json["fieldConfig"]["defaults"]["thresholds"]["steps"]
    lines = [
        value_format.said(step["value"], panel.unit) for step in steps if step["value"] is not None
    ]
    return ", ".join(lines) or "–"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
