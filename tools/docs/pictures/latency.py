"""A chart of latency over the rate of requests, with logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from tools.docs.pictures.drawing import Board

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 60, 60
STEPS = (1, 2, 5)


def drawn(name: str, points: Sequence[Mapping[str, float]], most_ms: float) -> str:
    """Return the chart of one type of request as SVG: p50, p99, and the limit of p99."""
    board = Board(WIDTH, HEIGHT, f"Latency of {name} against the rate")
    rates = [point["rate"] for point in points]
    times = [point[key] for point in points for key in ("p50_ms", "p99_ms")]
    across = _scale(min(rates), max(rates), LEFT, WIDTH - RIGHT)
    low, high = min(times) / 1.3, max([*times, most_ms]) * 1.3
    up = _scale(low, high, HEIGHT - BOTTOM, TOP)
    board.words(
        WIDTH / 2, 30, f"Latency of {name}, from planned start to answer", bold=True, size=15
    )
    for value in _marks(low, high):
        y = up(value)
        board.curve([(LEFT, y), (WIDTH - RIGHT, y)], colour="faint", width=0.5)
        board.words(LEFT - 8, y + 4, f"{value:g} ms", size=11, anchor="end")
    for rate in rates:
        board.words(across(rate), HEIGHT - BOTTOM + 18, f"{rate:g}", size=11)
    board.words(WIDTH / 2, HEIGHT - 14, "requests per second, offered", size=12)
    y = up(most_ms)
    board.curve([(LEFT, y), (WIDTH - RIGHT, y)], colour="green", dashed=True)
    board.words(
        LEFT + 6, y - 6, "twice the p99 of an idle fleet", size=11, anchor="start", backed=True
    )
    for key, colour in (("p50_ms", "blue"), ("p99_ms", "orange")):
        line = [(across(point["rate"]), up(point[key])) for point in points]
        board.curve(line, colour=colour, width=2)
        for x, at in line:
            board.dot(x, at, colour=colour)
        x, at = line[-1]
        board.words(x - 6, at - 9, key.removesuffix("_ms"), size=12, anchor="end", backed=True)
    return board.svg()


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    wide = math.log(high / low) or 1.0
    return lambda value: begin + (end - begin) * math.log(value / low) / wide


def _marks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [step * 10.0**power for power in powers for step in STEPS]
    return [value for value in values if low <= value <= high]
