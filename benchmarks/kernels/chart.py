"""A bar chart of a run as SVG: the time of each package, relative to the fastest of our calls.

The scale is logarithmic, so that a factor has the same length everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.kernels.measure import Row
from benchmarks.kernels.report import duration
from benchmarks.kernels.tasks import Task

WIDTH, LABELS, RIGHT, LINE, HEAD = 900, 300, 120, 19, 34
INK, FAINT, OURS, THEIRS = "#1f2933", "#7b8794", "#2f6f4f", "#b8c4d0"
FONT = "font-family='ui-sans-serif, system-ui, Helvetica, Arial, sans-serif'"


def drawn(tasks: Sequence[Task], rows: Sequence[Row], machine: str) -> str:
    """Return the SVG text of the chart, with a group for each task that was measured."""
    groups = [(task.title, found) for task in tasks if (found := _comparable(task, rows))]
    most = max((row.median_s or 0.0) / _fastest(found) for _, found in groups for row in found)
    shapes, y = [_words(20, 30, "The kernels and other packages", size=17, bold=True)], 52.0
    shapes.append(_words(20, y, f"time, one thread, logarithmic; {machine}", faint=True))
    for title, found in groups:
        shapes.append(_words(20, y + HEAD - 6, title, bold=True))
        shapes += _bars(found, y + HEAD, max(most, 10.0))
        y += HEAD + LINE * len(found)
    return _card(y + 20, shapes)


def _comparable(task: Task, rows: Sequence[Row]) -> list[Row]:
    found = [row for row in rows if row.task == task.name and row.median_s]
    both = any(_is_ours(row) for row in found) and not all(_is_ours(row) for row in found)
    return sorted(found, key=lambda row: row.median_s or 0.0) if both else []


def _is_ours(row: Row) -> bool:
    return row.name.startswith("midstreamer")


def _fastest(rows: Sequence[Row]) -> float:
    return min(row.median_s for row in rows if row.median_s and _is_ours(row))


def _bars(rows: Sequence[Row], top: float, most: float) -> Iterator[str]:
    """Yield the bars of a task.

    The length of a bar shows a factor: the time of a call divided by that of our fastest call.  The
    scale begins below 1, so that the fastest call, with factor 1, has a visible bar too.
    """
    room = WIDTH - LABELS - RIGHT
    least = math.log10(min(0.7, min(row.median_s or 1.0 for row in rows) / _fastest(rows)))
    scale = room / (math.log10(most) - least)
    for number, row in enumerate(rows):
        factor, y = (row.median_s or 0.0) / _fastest(rows), top + LINE * number
        width = max(2.0, scale * (math.log10(factor) - least))
        colour = OURS if _is_ours(row) else THEIRS
        yield _words(LABELS - 8, y + 13, row.name, anchor="end")
        yield (f"<rect x='{LABELS}' y='{y + 2:g}' width='{width:.1f}' height='{LINE - 5}' rx='2' "
               f"fill='{colour}'/>")  # fmt: skip
        told = duration(row.median_s or 0.0)
        told += "" if factor == 1.0 else f", {factor:.3g}x"
        yield _words(LABELS + width + 6, y + 13, told, faint=True)


def _words(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", bold: bool = False,
    faint: bool = False,
) -> str:  # fmt: skip
    weight, colour = ("600" if bold else "400"), (FAINT if faint else INK)
    return (
        f"<text x='{x:g}' y='{y:g}' font-size='{size}' text-anchor='{anchor}' "
        f"font-weight='{weight}' fill='{colour}' {FONT}>{escape(text)}</text>"
    )


def _card(height: float, shapes: Sequence[str]) -> str:
    size = f"width='{WIDTH}' height='{height:g}' viewBox='0 0 {WIDTH} {height:g}'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img'>"
    back = f"<rect width='{WIDTH}' height='{height:g}' rx='12' fill='#ffffff'/>"
    title = "<title>The kernels and other packages, by time</title>"
    return "\n".join([head, title, back, *shapes, "</svg>\n"])
