"""Sub-sequences of a stream that match a pattern (SPRING: Sakurai, Faloutsos, Yamamuro 2007).

A sub-sequence matches when its DTW distance to the pattern is within the threshold. Many matches
overlap, so only the best are reported. The matches are examined in the order of their ends, and the
best so far is kept. A match that is nearer than the best so far replaces it if the two overlap. If
they do not overlap, the best so far is final. The search then starts again at the end of the final
match, as if the stream began there. So reported matches do not overlap. From every sub-sequence
within the threshold, a chain of overlapping sub-sequences leads to a reported match. Each
sub-sequence in the chain is at least as near to the pattern as its predecessor.

The published algorithm instead goes on with its matrix and removes the paths that began before the
reported end. A cell of the matrix keeps only the cheapest path to it. That path may have replaced a
path that began after the reported end. If the cheapest path is removed, the replaced path is
missing too. The published algorithm then loses a match or reports too great a distance: about one
match in a hundred on short random series. Here every reported distance is the distance between the
reported sub-sequence and the pattern.

`brute_force` is the definition and compares every sub-sequence. `spring` is the algorithm: one
column of the cost matrix per point, with the start of each cell's path. Of equally near
sub-sequences with the same end the shortest is taken, and of equally near matches the one that ends
first. Costs are sums, and rounding can make two different sums equal when the last points are
added. Of two such sub-sequences `spring` takes the one that was cheaper before these additions. So
a match of `spring` may begin earlier than the match of `brute_force` with the same end. Both
matches have the same cost, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from midstreamer_kernels.reference.dtw import cost_matrix

Match = tuple[int, int, float]  # start, end (one past the last point), squared cost


def brute_force(values: Sequence[float], pattern: Sequence[float], threshold: float) -> list[Match]:
    """Return the matches of `pattern` in `values`, found by comparing every sub-sequence."""
    costs = [_costs_from(values, start, pattern) for start in range(len(values))]
    found: list[Match] = []
    begin = 0
    while True:
        best: Match | None = None
        for end in range(begin + 1, len(values) + 1):
            cost, back = min((costs[start][end - start - 1], -start) for start in range(begin, end))
            if math.sqrt(cost) > threshold or (best and cost >= best[2]):
                continue
            if best and -back >= best[1]:
                break
            best = (-back, end, cost)
        if best is None:
            return found
        found.append(best)
        begin = best[1]


def _costs_from(values: Sequence[float], start: int, pattern: Sequence[float]) -> list[float]:
    """Return the squared DTW cost of each sub-sequence that begins at `start`, shortest first."""
    part = values[start:]
    return [row[-1] for row in cost_matrix(part, pattern, max(len(part), len(pattern)))]


def spring(
    values: Sequence[float], pattern: Sequence[float], threshold: float
) -> list[tuple[Match, int]]:
    """Return the matches, each with the number of points after which it was final.

    A match that becomes final only because the stream ends gets ``len(values) + 1``.
    """
    found: list[tuple[Match, int]] = []
    begin = 0
    while True:
        following = _first(values, begin, pattern, threshold)
        if following is None:
            return found
        match, certain = following
        found.append((match, max([certain, *(earlier for _, earlier in found)])))
        begin = match[1]


def _first(
    values: Sequence[float], begin: int, pattern: Sequence[float], threshold: float
) -> tuple[Match, int] | None:
    column = [(math.inf, -1)] * len(pattern)  # (cost, start) of the best path to each cell
    best: Match | None = None
    for position in range(begin, len(values)):
        column = _advance(column, values[position], position, pattern)
        cost, start = column[-1]
        if best and start >= best[1]:
            return best, position + 1
        if math.sqrt(cost) <= threshold and (best is None or cost < best[2]):
            best = (start, position + 1, cost)
        if best and all(cost >= best[2] or start >= best[1] for cost, start in column):
            return best, position + 1
    return None if best is None else (best, len(values) + 1)


def _advance(
    before: list[tuple[float, int]], value: float, position: int, pattern: Sequence[float]
) -> list[tuple[float, int]]:
    """Return the next column of (cost, start) after the point `value` at `position`.

    Of equally cheap paths to a cell, the one that began latest is continued.
    """
    column: list[tuple[float, int]] = []
    below = diagonal = (0.0, position)  # a path may begin at every point of the stream
    for left, point in zip(before, pattern, strict=True):
        # Of equal costs `min` returns the first, so the order of its arguments decides.
        cost, start = min(below, diagonal, left, key=lambda cell: cell[0])
        step = value - point
        column.append((step * step + cost, start))
        below, diagonal = column[-1], left
    return column
