"""A small library that draws SVG: boxes, lines, curves and text on a white background.

Each picture has its own background, so that it can be read on light and dark pages.  The colours
of curves can be distinguished by colour-blind readers, and curves never differ in colour only.
Pictures are generated, so that they can be reviewed as code and agree with the code.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

INK = "#1f2933"
FAINT = "#7b8794"
FONT = "font-family='ui-sans-serif, system-ui, Helvetica, Arial, sans-serif'"
FILLS = {
    "plain": "#f5f7fa",
    "data": "#e3f0fc",
    "keep": "#fdf3d8",
    "learn": "#e6f6e6",
    "last": "#eceff3",
}

LINES = {
    "ink": INK,
    "faint": "#9aa5b1",
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#00805f",
}


class Board:
    """Collects shapes; `svg` returns the text of the whole picture."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._shapes: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, *, fill: str = "plain") -> None:
        """Draw a rounded box with its upper left corner at (x, y)."""
        self._shapes.append(
            f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='8' "
            f"fill='{FILLS[fill]}' stroke='{INK}' stroke-width='1.2'/>"
        )

    def words(
        self, x: float, y: float, text: str, *, size: int = 13, anchor: str = "middle",
        bold: bool = False, faint: bool = False, backed: bool = False,
    ) -> None:  # fmt: skip
        """Write a line of text with its baseline at y; ``backed`` draws a white halo behind it."""
        weight, colour = ("600" if bold else "400"), (FAINT if faint else INK)
        halo = " stroke='#ffffff' stroke-width='5' paint-order='stroke'" if backed else ""
        self._shapes.append(
            f"<text x='{x:g}' y='{y:g}' font-size='{size}' text-anchor='{anchor}' "
            f"font-weight='{weight}' fill='{colour}'{halo} {FONT}>{escape(text)}</text>"
        )

    def titled(
        self, x: float, y: float, width: float, height: float, title: str, *lines: str,
        fill: str = "plain",
    ) -> None:  # fmt: skip
        """Draw a box that contains a bold title and smaller lines below it."""
        self.box(x, y, width, height, fill=fill)
        top = y + height / 2 - 8 * len(lines) + 5
        self.words(x + width / 2, top, title, bold=True, size=14)
        for number, line in enumerate(lines, 1):
            self.words(x + width / 2, top + 16 * number, line, size=11)

    def path(self, steps: str, *, dashed: bool = False, arrow: bool = True) -> None:
        """Draw a path by the SVG commands ``steps``; ``arrow`` adds an arrow head at its end."""
        dash = " stroke-dasharray='5 4'" if dashed else ""
        head = " marker-end='url(#head)'" if arrow else ""
        self._shapes.append(
            f"<path d='{steps}' fill='none' stroke='{INK}' stroke-width='1.3'{dash}{head}/>"
        )

    def curve(
        self, points: Iterable[tuple[float, float]], *, colour: str = "ink", width: float = 1.5,
        dashed: bool = False,
    ) -> None:  # fmt: skip
        """Draw a line through the given points."""
        dash = " stroke-dasharray='6 4'" if dashed else ""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._shapes.append(
            f"<polyline points='{places}' fill='none' stroke='{LINES[colour]}' "
            f"stroke-width='{width:g}' stroke-linejoin='round'{dash}/>"
        )

    def shade(
        self, x: float, y: float, width: float, height: float, *, colour: str = "faint"
    ) -> None:
        """Draw a transparent rectangle over the shapes that were drawn before."""
        self._shapes.append(
            f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}' "
            f"fill='{LINES[colour]}' fill-opacity='0.16'/>"
        )

    def dot(self, x: float, y: float, *, colour: str = "ink", size: float = 3.5) -> None:
        """Draw a point."""
        self._shapes.append(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{size:g}' fill='{LINES[colour]}'/>"
        )

    def svg(self) -> str:
        """Return the SVG text of the picture."""
        return "\n".join(
            [
                f"<svg xmlns='http://www.w3.org/2000/svg' width='{self.width}' "
                f"height='{self.height}' viewBox='0 0 {self.width} {self.height}' role='img'>",
                f"<title>{escape(self.title)}</title>",
                "<defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' "
                "markerHeight='7' orient='auto-start-reverse'>"
                f"<path d='M0 0 L10 5 L0 10 z' fill='{INK}'/></marker></defs>",
                f"<rect width='{self.width}' height='{self.height}' rx='12' fill='#ffffff'/>",
                *self._shapes,
                "</svg>\n",
            ]
        )
