"""The last points of a stream, z-normalised, against every pattern of their number.

First the two corners of the cost matrix, which are on every path; then how far the points lie
outside of the pattern's envelope (LB_Keogh, as in `emit.bounds`), a few at a time until the limit
is passed. What is left is compared whole, as many patterns at once as there are lanes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.lanes import (
    PADDING,
    block_cells,
    dtw_block,
    empty_block,
    lane_count,
)
from midstreamer_kernels.native.windows import normalize, window_statistics
from midstreamer_kernels.plan import SLACK

PLACES = 16  # of an envelope between two looks at the limit


class Group(NamedTuple):
    """Patterns of one length m, k of them."""

    patterns: NDArray[np.float64]
    """As compared, a row after the other, shape (k * m,)."""
    upper: NDArray[np.float64]
    """The highest value within the band of each place, likewise."""
    lower: NDArray[np.float64]
    window: NDArray[np.float64]
    """Scratch, shape (m,)."""
    found: NDArray[np.int64]
    """Receives the rows within the limit, shape (k,)."""
    costs: NDArray[np.float64]
    """Receives their squared distances, shape (k,)."""


@jit
def normal(values: Any, window: Any) -> None:
    """Write the z-normal form of `values` into `window`."""
    shift, scale = np.empty(1), np.empty(1)
    window_statistics(values, values.size, 0, 1, shift, scale)
    normalize(values, shift[0], scale[0], window)


@jit
def near(values: Any, group: Any, band: int, limit: float) -> Any:
    """Find the patterns whose squared distance to `values` is within `limit`; return how many."""
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
    """Tell whether a pattern may be within the limit."""
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
    """Compare the patterns in `block`; return how many are found with those before."""
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
