"""Sub-sequences of a stream that are like a pattern (SPRING: Sakurai, Faloutsos, Yamamuro 2007).

A sub-sequence matches when its DTW distance to the pattern is within the threshold. Many overlap,
so only the best are reported: going through the ends of matches in order, the best so far is
replaced by a nearer one that overlaps it, and settled by a nearer one that does not. From a
settled match on the search begins anew, as though the stream began right after it. So reported
matches do not overlap, and from each sub-sequence within the threshold one comes to a report
through sub-sequences that overlap, each at least as near as the one before.

The original goes on with what it has in its matrix, less the paths from before the reported end.
Where those had displaced others, a match is lost, or told with a distance that is too great: about
one in a hundred on short random series. Here each distance is that of the sub-sequence told.

`brute_force` is the definition, over every sub-sequence. `spring` is the algorithm: one column of
the cost matrix for each point, with the start of each cell's path. Of equally near sub-sequences
with one end the shortest counts; of equally near matches the one that ends first. Where only the
rounding of the last sums makes two equally near, `spring` still tells them apart, by what is summed
so far, and may begin a match earlier than `brute_force`; what they cost is the same to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from midstreamer_kernels.reference.dtw import cost_matrix

Match = tuple[int, int, float]  # start, end (one past the last point), squared cost


def brute_force(values: Sequence[float], pattern: Sequence[float], threshold: float) -> list[Match]:
    """Return the matches by comparing every sub-sequence."""
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
    """Return the costs of the sub-sequences that begin at `start`, by length."""
    part = values[start:]
    return [row[-1] for row in cost_matrix(part, pattern, max(len(part), len(pattern)))]


def spring(
    values: Sequence[float], pattern: Sequence[float], threshold: float
) -> list[tuple[Match, int]]:
    """Return the matches, each with the number of points after which it was certain.

    What the end of the stream settles is certain after one point more than there are.
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
    column = [(math.inf, -1)] * len(pattern)  # cost and start of the best path to each cell
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
    """Return the column of one more point: each path goes on from the latest start among equals."""
    column: list[tuple[float, int]] = []
    below = diagonal = (0.0, position)  # a path may begin at every point
    for left, point in zip(before, pattern, strict=True):
        cost, start = min(below, diagonal, left, key=lambda cell: cell[0])  # the first of equals
        step = value - point
        column.append((step * step + cost, start))
        below, diagonal = column[-1], left
    return column
