"""Pictures of boards, for people without a Grafana at hand: from what a real run answered.

They have the layout, units, limits and legends of the boards, and are simpler than Grafana's.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from dashboards import answers, built, drawing, panels, reading
from dashboards.answers import Kept
from dashboards.board import Board

FOLDER = built.ROOT / "docs/pictures/boards"
COLUMN_IN, ROW_IN = 0.52, 0.31
"""Inches of a cell of Grafana's grid."""
GAP_LEFT_IN, GAP_RIGHT_IN, GAP_TOP_IN, GAP_BOTTOM_IN = 0.55, 0.18, 0.32, 0.5
HEAD_IN = 0.75
DPI = 84
PALETTE = 160
BYTES_MOST = 150_000


def path(board: Board) -> Path:
    """Where the picture of a board is."""
    return FOLDER / f"{board.name}.png"


def draw_all(kept: Kept) -> list[Path]:
    """Draw every board; ValueError when a picture is larger than it may be."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    drawn = []
    for board in built.boards():
        made = _small(draw(board, kept))
        if len(made) > BYTES_MOST:
            raise ValueError(
                f"the picture of {board.title} has {len(made):,} bytes, {BYTES_MOST:,} at most:"
                " lower DPI or the number of colours"
            )
        path(board).write_bytes(made)
        drawn.append(path(board))
    return drawn


def draw(board: Board, kept: Kept) -> bytes:
    """The picture of one board, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    read = board.read()
    several = read["panels"]
    rows = max(each["gridPos"].get("y", 0) + each["gridPos"]["h"] for each in several)
    size = (panels.WIDTH * COLUMN_IN, rows * ROW_IN + HEAD_IN)
    with mpl.rc_context({"font.family": "DejaVu Sans", "figure.facecolor": drawing.PAPER}):
        figure = pyplot.figure(figsize=size, dpi=DPI)
        _head(figure, board, size)
        for told in several:
            if told["type"] == reading.ROW:
                _question(figure, told, size)
        for panel in reading.panels(read):
            _panel(figure, board, panel, kept, size)
        made = io.BytesIO()
        figure.savefig(made, format="png", metadata={"Software": None})
        pyplot.close(figure)
    return made.getvalue()


def _head(figure: Any, board: Board, size: tuple[float, float]) -> None:
    y = 1 - 0.28 / size[1]
    ink = {"color": drawing.INK, "va": "center"}
    figure.text(0.012, y, f"Midstreamer / {board.title}", fontsize=14, fontweight="bold", **ink)
    faint = {"color": drawing.FAINT, "va": "center", "fontsize": 8.5}
    figure.text(0.012, 1 - 0.55 / size[1], board.says, **faint)


def _question(figure: Any, told: dict[str, Any], size: tuple[float, float]) -> None:
    top = size[1] - HEAD_IN - told["gridPos"].get("y", 0) * ROW_IN
    y = (top - ROW_IN / 2) / size[1]
    style = {"color": "#0b4f79", "va": "center", "fontsize": 10.5, "fontweight": "bold"}
    figure.text(0.012, y, f"{told['title']}", **style)
    line = (top - ROW_IN + 0.03) / size[1]
    figure.add_artist(_line(figure, line))


def _line(figure: Any, y: float) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [0.012, 0.988], [y, y], color="#b8d4e6", linewidth=1, transform=figure.transFigure
    )


def _panel(
    figure: Any, board: Board, panel: reading.Panel, kept: Kept, size: tuple[float, float]
) -> None:
    at = panel.told["gridPos"]
    graph = panel.kind in ("timeseries", "heatmap")
    left = at.get("x", 0) * COLUMN_IN + (GAP_LEFT_IN if graph else 0.16)
    bottom_gap = GAP_BOTTOM_IN if graph else 0.1
    right = (at.get("x", 0) + at["w"]) * COLUMN_IN - GAP_RIGHT_IN
    top = size[1] - HEAD_IN - at.get("y", 0) * ROW_IN - GAP_TOP_IN
    bottom = size[1] - HEAD_IN - (at.get("y", 0) + at["h"]) * ROW_IN + bottom_gap
    place = (left / size[0], bottom / size[1], (right - left) / size[0], (top - bottom) / size[1])
    axes = figure.add_axes(place)
    answered = kept.of(board.uid, panel.title)
    if panel.kind == "table":
        drawing.listed(axes, panel, answered)
    else:
        drawing.draw(axes, panel, answered, kept.begin_s)


def _small(picture: bytes) -> bytes:
    """The same with few colours, which lines and words do not need."""
    with Image.open(io.BytesIO(picture)) as image:
        few = image.convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
        made = io.BytesIO()
        few.save(made, format="png", optimize=True)
    return made.getvalue()


def main() -> int:
    """Draw what the last run answered; 1 when there was none."""
    from dashboards.live import KEPT

    if not KEPT.is_file():
        print(f"nothing was answered yet ({KEPT}): run make dashboards-live")
        return 1
    for each in draw_all(answers.read(KEPT)):
        print(f"drew {each.relative_to(built.ROOT)}, {each.stat().st_size:,} bytes")
    return 0
