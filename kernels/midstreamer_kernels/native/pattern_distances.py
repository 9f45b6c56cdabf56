"""Comparison of the last m points of a stream, z-normalised, with all patterns of m points.

A pattern is ruled out by lower bounds first: by the two corner cells of the cost matrix, which are
on every warping path, then by LB_Keogh with the pattern's envelope, which stops as soon as it
exceeds the limit. The remaining patterns are compared by DTW, as many at once as there are lanes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.jit_decorators import jit
from midstreamer_kernels.native.windows import normalize, window_statistics
from midstreamer_kernels.native.windows_in_lanes import (
    PADDING,
    block_cells,
    dtw_block,
    empty_block,
    lane_count,
)
from midstreamer_kernels.search_inputs import SLACK

PLACES = 16  # points of LB_Keogh that are summed between two checks of the limit


class Group(NamedTuple):
    """k patterns of one length m, with their envelopes and the arrays for the results."""

    patterns: NDArray[np.float64]
    """The k patterns in z-normal form, one after the other, shape (k * m,)."""
    upper: NDArray[np.float64]
    """Upper envelope of each pattern: the maximum within the band, shape (k * m,)."""
    lower: NDArray[np.float64]
    """Lower envelope of each pattern: the minimum within the band, shape (k * m,)."""
    window: NDArray[np.float64]
    """Scratch for the z-normal form of the last m points, shape (m,)."""
    found: NDArray[np.int64]
    """Receives the indices of the patterns within the limit, shape (k,)."""
    costs: NDArray[np.float64]
    """Receives the squared DTW distances of the patterns in `found`, shape (k,)."""


@jit
def normal(values: Any, window: Any) -> None:
    """Write the z-normal form of `values`, shape (m,), to `window`, shape (m,)."""
    shift, scale = np.empty(1), np.empty(1)
    window_statistics(values, values.size, 0, 1, shift, scale)
    normalize(values, shift[0], scale[0], window)


@jit
def near(values: Any, group: Any, band: int, limit: float) -> Any:
    """Find the patterns of `group` whose squared DTW distance to `values` is within `limit`.

    `values`, shape (m,), is z-normalised first. The patterns found are written to `group.found`
    and `group.costs`; their number is returned.
    """
    window, m = group.window, values.size
    normal(values, window)
    lanes = lane_count(window)
    block = empty_block(window, m)
    waiting = np.empty(lanes, np.int64)
    filled = found = 0
    for row in range(group.found.size):
        if _bound(window, group, row * m, limit * (1.0 + SLACK)):
            waiting[filled] = row
            for place in range(m):
                block[(PADDING + place) * lanes + filled] = group.patterns[row * m + place]
            filled += 1
            if filled == lanes:
                found = _settle(group, block, band, limit, waiting, filled, found)
                filled = 0
    return _settle(group, block, band, limit, waiting, filled, found)


@jit
def _bound(window: Any, group: Any, begin: int, limit: float) -> bool:
    """Return False if a lower bound of a pattern's squared distance to `window` exceeds `limit`.

    Otherwise return True: then the squared distance may be within `limit`. The pattern begins at
    element `begin` of ``group.patterns``.
    """
    m = window.size
    first = window[0] - group.patterns[begin]
    last = window[m - 1] - group.patterns[begin + m - 1]
    if m > 1 and first * first + last * last > limit:
        return False
    total = 0.0
    for place in range(0, m, PLACES):
        end = min(m, place + PLACES)
        total += _excess(
            window[place:end],
            group.upper[begin + place : begin + end],
            group.lower[begin + place : begin + end],
        )
        if total > limit:
            return False
    return True


@jit(reorder_sums=True)
def _excess(window: Any, upper: Any, lower: Any) -> float:
    total = 0.0
    for place in range(window.size):
        over = window[place] - upper[place]
        under = lower[place] - window[place]
        most = over if over > under else under
        most = most if most > 0.0 else 0.0
        total += most * most
    return total


@jit
def _settle(
    group: Any, block: Any, band: int, limit: float, waiting: Any, filled: int, found: int
) -> Any:
    """Compare the window with the `filled` patterns in `block`, and keep those within `limit`.

    `found` is the number of patterns kept before. The function returns the number kept afterwards.
    """
    if filled == 0:
        return found
    costs = np.empty(waiting.size)
    dtw_block(group.window, block, band, limit, block_cells(block, band), costs)
    for lane in range(filled):
        if costs[lane] <= limit:
            group.found[found] = waiting[lane]
            group.costs[found] = costs[lane]
            found += 1
    return found
