"""Draw pictures of the dashboards from the results of a live run, for the documentation.

The pictures have the layout, units, limits and legends of the dashboards.  They are simpler than
what Grafana draws.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from dashboards import board_reader, built_dashboards, panel_drawing, panels, query_results
from dashboards.board import Board
from dashboards.query_results import Kept

FOLDER = built_dashboards.ROOT / "docs/pictures/boards"
COLUMN_IN, ROW_IN = 0.52, 0.32
"""Width and height of a cell of Grafana's grid in the picture, in inches."""
GAP_LEFT_IN, GAP_RIGHT_IN, GAP_TOP_IN, GAP_BOTTOM_IN = 0.55, 0.18, 0.32, 0.6
HEAD_IN = 0.75
DPI = 84
PALETTE = 160
"""Number of colours in a picture."""
BYTES_MOST = 150_000
"""Largest size of one picture in bytes."""


def path(board: Board) -> Path:
    """Return the path of the picture of a dashboard."""
    return FOLDER / f"{board.name}.png"


def draw_all(kept: Kept) -> list[Path]:
    """Draw every dashboard and return the paths of the pictures.

    Raise ValueError if a picture has more than `BYTES_MOST` bytes.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    drawn = []
    for board in built_dashboards.boards():
        made = _small(draw(board, kept))
        if len(made) > BYTES_MOST:
            raise ValueError(
                f"the picture of {board.title} has {len(made):,} bytes, but {BYTES_MOST:,} at most"
                " are allowed: lower DPI or PALETTE"
            )
        path(board).write_bytes(made)
        drawn.append(path(board))
    return drawn


def draw(board: Board, kept: Kept) -> bytes:
    """Return the picture of one dashboard as the bytes of a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    read = board.read()
    several = read["panels"]
    rows = max(each["gridPos"].get("y", 0) + each["gridPos"]["h"] for each in several)
    size = (panels.WIDTH * COLUMN_IN, rows * ROW_IN + HEAD_IN)
    with mpl.rc_context({"font.family": "DejaVu Sans", "figure.facecolor": panel_drawing.PAPER}):
        figure = pyplot.figure(figsize=size, dpi=DPI)
        _head(figure, board, size)
        for told in several:
            if told["type"] == board_reader.ROW:
                _question(figure, told, size)
        for panel in board_reader.panels(read):
            _panel(figure, board, panel, kept, size)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        pyplot.close(figure)
    return buffer.getvalue()


def _head(figure: Any, board: Board, size: tuple[float, float]) -> None:
    y = 1 - 0.28 / size[1]
    ink = {"color": panel_drawing.INK, "va": "center"}
    figure.text(0.012, y, f"Midstreamer / {board.title}", fontsize=14, fontweight="bold", **ink)
    faint = {"color": panel_drawing.FAINT, "va": "center", "fontsize": 8.5}
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
    figure: Any, board: Board, panel: board_reader.Panel, kept: Kept, size: tuple[float, float]
) -> None:
    at = panel.json["gridPos"]
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
        panel_drawing.listed(axes, panel, answered)
    else:
        panel_drawing.draw(axes, panel, answered, kept.begin_s)


def _small(picture: bytes) -> bytes:
    """Return the PNG with `PALETTE` colours, which makes the file smaller."""
    with Image.open(io.BytesIO(picture)) as image:
        few = image.convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def main() -> int:
    """Draw all dashboards from the last live run; return 1 if there was no run."""
    from dashboards.live import KEPT

    if not KEPT.is_file():
        print(f"there are no results of a live run ({KEPT}): run make dashboards-live")
        return 1
    for each in draw_all(query_results.read(KEPT)):
        print(f"drew {each.relative_to(built_dashboards.ROOT)}, {each.stat().st_size:,} bytes")
    return 0
