"""Draws a trace as SVG: one row for each span, placed by its begin and duration. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.support.jaeger import Span
from tools.docs.pictures.drawing import Board

WIDTH = 1100
NAMES = 330
"""Width of the span names on the left, in pixels."""
ROW = 24
TOP = 74
EDGE = 24
TICKS = 5


def ordered(spans: Sequence[Span]) -> list[tuple[int, Span]]:
    """Return the spans as a tree: each span with its depth, then its children in order of time."""
    known = {span.id for span in spans}

    def below(parent: Span | None, depth: int) -> Iterator[tuple[int, Span]]:
        for span in sorted(spans, key=lambda each: each.begin_s):
            is_first = parent is None and span.parent not in known
            if is_first or (parent is not None and span.parent == parent.id):
                yield depth, span
                yield from below(span, depth + 1)

    return list(below(None, 0))


def picture(title: str, spans: Sequence[Span]) -> str:
    """Return the trace as an SVG picture."""
    rows = ordered(spans)
    begin_s = min(span.begin_s for span in spans)
    whole_s = max(span.end_s for span in spans) - begin_s
    height = TOP + ROW * len(rows) + EDGE
    board = Board(WIDTH, height, title)
    board.words(EDGE, 32, title, size=16, anchor="start", bold=True)
    room = WIDTH - NAMES - 2 * EDGE - 70
    for tick in range(TICKS + 1):
        x = NAMES + EDGE + room * tick / TICKS
        board.words(x, 58, f"{1e3 * whole_s * tick / TICKS:.1f} ms", size=11, faint=True)
        board.curve([(x, TOP - 8), (x, height - EDGE / 2)], colour="faint", width=0.6)
    services = list(dict.fromkeys(span.service for _, span in rows))
    for row, (depth, span) in enumerate(rows):
        y = TOP + ROW * row
        name = f"{span.service}: {span.name}"
        board.words(EDGE + 14 * depth, y + 14, name, size=12, anchor="start")
        x = NAMES + EDGE + room * (span.begin_s - begin_s) / whole_s
        width = max(2.0, room * span.took_s / whole_s)
        colour = ("blue", "orange", "green", "ink")[services.index(span.service) % 4]
        # Draw the bar three times: one layer of its translucent colour is too pale.
        for _ in range(3):
            board.shade(x, y + 3, width, ROW - 8, colour=colour)
        duration = f"{1e3 * span.took_s:.2f} ms" + (f", {span.links} linked" if span.links else "")
        board.words(x + width + 6, y + 14, duration, size=11, anchor="start")
    return board.svg()
