"""Pictures for the guide to the kernels.

They show a warping path, the matches of a search, a monitor (which finds patterns in a series that
grows), and the effect of an exclusion.  An exclusion is an option of a search: of windows that
begin close to each other, the search then returns only the best.

The pictures show results of the package on series made from fixed seeds.  The results are identical
to the bit on every machine, and so are the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels import History, Monitor, dtw_path
from tools.docs.pictures.drawing import Board

Series = NDArray[np.float64]
Points = list[tuple[float, float]]

WIDTH = 880
DECILES = 10


class Frame:
    """A part of the picture with its own axes: x from 0 to ``count``, y from low to high."""

    def __init__(
        self, box: tuple[float, float, float, float], count: int, low: float, high: float
    ) -> None:
        self.left, self.top, self.width, self.height = box
        self.count, self.low, self.high = count, low, high

    def x(self, place: float) -> float:
        """Return where a position on the axis is drawn: its x coordinate in the picture."""
        return self.left + self.width * place / self.count

    def y(self, value: float) -> float:
        """Return where a value is drawn: its y coordinate in the picture."""
        return self.top + self.height * (self.high - value) / (self.high - self.low)

    def line(self, values: Series, first: int = 0) -> Points:
        """Return where in the picture to draw the values of a series that begins at ``first``."""
        return [(self.x(first + place), self.y(value)) for place, value in enumerate(values)]


def frame(box: tuple[float, float, float, float], values: Series) -> Frame:
    """Return a part of the picture, at the place ``box``, whose axes fit the values."""
    return Frame(box, len(values) - 1, float(values.min()), float(values.max()))


def smooth(seed: int, count: int) -> Series:
    """Return a smooth series: a random walk, averaged twice over seven points."""
    walk = np.random.default_rng(seed).standard_normal(count + 12).cumsum()
    for _ in range(2):
        walk = np.array([walk[place : place + 7].mean() for place in range(len(walk) - 6)])
    return walk


def path() -> str:
    """Return a picture of a warping path: the points it pairs, and its way through the matrix."""
    count, band = 60, 8
    a = smooth(9, count)
    late = np.clip(np.arange(count) - 6.0 * np.sin(np.arange(count) / 19.0), 0, count - 1)
    b = np.interp(late, np.arange(count), a) + 0.1 * np.sin(np.arange(count) * 1.7)
    distance, pairs = dtw_path(a, b, band=band)
    board = Board(
        WIDTH, 400, "A warping path: which points it pairs, and its way through the matrix"
    )
    board.words(230, 34, "Each point has at least one partner", bold=True)
    upper = Frame((40, 60, 380, 130), count - 1, a.min(), a.max())
    lower = Frame((40, 230, 380, 130), count - 1, b.min(), b.max())
    for i, j in pairs.tolist():
        ends = [(upper.x(i), upper.y(a[i])), (lower.x(j), lower.y(b[j]))]
        board.curve(ends, colour="faint", width=0.8)
    board.curve(upper.line(a), colour="blue", width=2.2)
    board.curve(lower.line(b), colour="orange", width=2.2)
    board.words(44, 84, "a", bold=True, anchor="start")
    board.words(44, 354, "b", bold=True, anchor="start")
    _matrix(board, pairs.tolist(), count, band)
    board.words(680, 388, f"distance {distance:.2f}", size=12, faint=True)
    return board.svg()


def _matrix(board: Board, pairs: Sequence[Sequence[int]], count: int, band: int) -> None:
    cell, left, top = 5.0, 530.0, 60.0
    board.words(680, 34, f"The path stays in the band, |i - j| ≤ {band}", bold=True)
    for i in range(count):
        first, last = max(0, i - band), min(count, i + band + 1)
        board.shade(left + first * cell, top + i * cell, (last - first) * cell, cell)
    centres = [(left + (j + 0.5) * cell, top + (i + 0.5) * cell) for i, j in pairs]
    board.curve(centres, colour="ink", width=2.4)
    board.words(left - 12, top + 12, "i", bold=True)
    board.words(left + 8, top - 6, "j", bold=True)


def matches() -> str:
    """Return a picture of a history and the three windows that are most similar to its end.

    Below, it shows each of these windows together with the end, both z-normalised.
    """
    m, k = 40, 3
    values = smooth(12, 640)
    query = values[-m:]
    found = History(values, dtype="float64").search(query, k, band=4, until=600, exclusion=m)
    board = Board(WIDTH, 420, "The three windows of a history nearest to its last 40 points")
    board.words(30, 32, "The last points, and the three windows nearest to them", bold=True,
                anchor="start")  # fmt: skip
    whole = frame((30, 56, 820, 150), values)
    board.curve(whole.line(values), colour="faint", width=1.2)
    colours = ("blue", "orange", "green")
    for number, (begin, colour) in enumerate(zip(found.index.tolist(), colours, strict=True), 1):
        part = values[begin : begin + m]
        board.curve(whole.line(part, begin), colour=colour, width=3)
        board.words(whole.x(begin + m / 2), whole.y(float(part.max())) - 8, str(number), bold=True)
    board.curve(whole.line(query, len(values) - m), colour="ink", width=3)
    board.words(whole.x(len(values) - m / 2), whole.y(float(query.max())) - 8, "now", bold=True)
    board.words(30, 244, "As they are compared: z-normalised, within the band", bold=True,
                anchor="start")  # fmt: skip
    for number, colour in enumerate(colours):
        begin = int(found.index[number])
        window = values[begin : begin + m]
        both = [(part - part.mean()) / part.std() for part in (query, window)]
        place = frame((30.0 + 285 * number, 268, 250, 110), np.concatenate(both))
        place.count = m - 1
        board.curve(place.line(both[0]), colour="ink", width=1.6, dashed=True)
        board.curve(place.line(both[1]), colour=colour, width=2.2)
        board.words(155.0 + 285 * number, 404, f"{number + 1}: {found.distance[number]:.2f}",
                    size=12)  # fmt: skip
    return board.svg()


def monitor() -> str:
    """Return a picture of a monitor that finds a pattern in a series at three different speeds."""
    pattern = np.sin(np.arange(25) / 24.0 * 2.0 * np.pi) * np.hanning(25)
    noise = np.random.default_rng(7).standard_normal
    pieces: list[Series] = []
    for length in (25, 40, 16):
        stretched = np.interp(np.linspace(0, 24, length), np.arange(25), pattern)
        pieces += [0.05 * noise(50), stretched + 0.05 * noise(length)]
    stream = np.concatenate([*pieces, 0.05 * noise(50)])
    watching = Monitor([pattern], threshold=0.6)
    matches_at = [
        (at, found) for at, value in enumerate(stream) for found in watching.push(float(value))
    ]
    board = Board(WIDTH, 300, "A monitor finds a pattern whether it comes fast or slowly")
    board.words(30, 32, "One pattern, three speeds", bold=True, anchor="start")
    small = Frame((30, 90, 100, 130), 24, -0.8, 0.8)
    board.curve(small.line(pattern), colour="orange", width=2.4)
    board.words(80, 250, "the pattern", size=12, faint=True)
    whole = Frame((170, 70, 680, 170), len(stream) - 1, float(stream.min()), float(stream.max()))
    for at, found in matches_at:
        left, right = whole.x(found.start), whole.x(found.end - 1)
        board.shade(left, 60, right - left, 190, colour="blue")
        board.words((left + right) / 2, 54, f"{found.distance:.2f}", size=12)
        board.curve([(whole.x(at), 60), (whole.x(at), 250)], colour="orange", dashed=True)
    board.curve(whole.line(stream), colour="ink", width=1.4)
    board.words(510, 276, "shaded: start to end of a match, with its distance; dashed: the point "
                "that confirmed it", size=12, faint=True)  # fmt: skip
    return board.svg()


def exclusion() -> str:
    """Return a picture of how an exclusion makes a random walk look predictable.

    One curve shows the share of rises after the analogs of a search with an exclusion; the true
    share is one half. The other curve shows the share for a search on a grid without an exclusion.
    """
    board = Board(WIDTH, 380, "An exclusion makes a random walk look predictable; a fixed grid not")
    board.words(30, 32, "Share of a random walk's nearest windows that were followed by a rise",
                bold=True, anchor="start")  # fmt: skip
    place = Frame((90, 60, 560, 250), DECILES - 1, 0.25, 0.75)
    for value in (0.3, 0.4, 0.5, 0.6, 0.7):
        board.words(80, place.y(value) + 4, f"{value:.1f}", size=12, anchor="end", faint=True)
    level = [(place.x(0), place.y(0.5)), (place.x(DECILES - 1), place.y(0.5))]
    board.curve(level, colour="ink", width=1.2, dashed=True)
    board.words(place.x(0) + 8, place.y(0.5) - 7, "the truth", size=12, anchor="start")
    ways: tuple[tuple[str, str, Callable[[History, Series, int], NDArray[np.int64]]], ...] = (
        ("orange", "exclusion=32", _with_exclusion),
        ("blue", "step=8, no exclusion", _on_a_grid),
    )
    for colour, caption, way in ways:
        shares = chances(way)
        line = [(place.x(decile), place.y(share)) for decile, share in enumerate(shares)]
        board.curve(line, colour=colour, width=2.4)
        for x, y in line:
            board.dot(x, y, colour=colour)
        board.words(664, line[-1][1] + 4, caption, size=12, anchor="start", bold=True)
    board.words(370, 346, "where the window ends, from its lowest tenth to its highest", size=12,
                faint=True)  # fmt: skip
    return board.svg()


M = 64  # number of points in a window
ANALOGS = 30


def chances(way: Callable[[History, Series, int], NDArray[np.int64]]) -> list[float]:
    """Return how often a rise followed the analogs of a window: one share for each decile.

    The deciles divide the windows by the height of their last value: its z-score within the window.
    ``way`` is the search that finds the analogs of a window.
    """
    said: list[tuple[float, float]] = []
    for seed in range(8):
        walk = np.random.default_rng(seed).standard_normal(3000).cumsum()
        history = History(walk, dtype="float64")
        for end in range(1000, 3000, 32):
            query = walk[end - M : end]
            after = way(history, query, end - 1) + M
            rises = float((walk[after] > walk[after - 1]).mean())
            said.append((float((query[-1] - query.mean()) / query.std()), rises))
    parts = np.array_split(np.array(sorted(said))[:, 1], DECILES)
    return [float(part.mean()) for part in parts]


def _with_exclusion(history: History, query: Series, until: int) -> NDArray[np.int64]:
    return history.search(query, ANALOGS, band=0, until=until, exclusion=M // 2).index


def _on_a_grid(history: History, query: Series, until: int) -> NDArray[np.int64]:
    return history.search(query, ANALOGS, band=0, until=until, step=M // 8).index
