"""The histories of a scan: the numbering of their candidates and strips, and the coarse bounds.

A candidate is a window that the search may return. The candidates of all histories are numbered one
after the other, in the order of the table. A strip is `query_profile.STRIP` consecutive candidates
of one history; the last strip of a history may have fewer. Strips are numbered in the same order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.query_profile import STRIP
from midstreamer_kernels.search_inputs import COUNT, FIRST, START


class Histories(NamedTuple):
    """The table of the histories, and the bounds of all their candidates.

    A bound is NaN if its element has no candidate, or if its candidate was already compared. NaN
    is not less than any limit, so such an element is never chosen.
    """

    table: NDArray[np.int64]
    """One row per history, shape (histories, COLUMNS); see `search_inputs` for the columns."""
    before: NDArray[np.int64]
    """Element i is the number of candidates in the histories before history i; the last element is
    the number in all histories. Shape (histories + 1,)."""
    strips: NDArray[np.int64]
    """Element i is the number of strips in the histories before history i; the last element is the
    number in all histories. Shape (histories + 1,)."""
    bounds: NDArray[np.float32]
    """Coarse bound of each candidate, `STRIP` elements per strip; shape (STRIP * strips,)."""
    lows: NDArray[np.float32]
    """The least coarse bound of each strip, shape (strips,)."""


def numbered(table: NDArray[np.int64]) -> Histories:
    """Return the histories in `table`, with their candidates and strips counted.

    The bounds are not filled.
    """
    counts = np.zeros((2, len(table) + 1), np.int64)
    counts[0, 1:] = table[:, COUNT]
    counts[1] = (counts[0] + (STRIP - 1)) // STRIP
    before, strips = counts.cumsum(axis=1)
    total = int(strips[-1])
    bounds, lows = np.empty(STRIP * total, np.float32), np.empty(total, np.float32)
    return Histories(table, before, strips, bounds, lows)


def places(
    histories: Histories, orders: NDArray[np.int64], step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row in the table and the absolute position of each candidate in `orders`.

    `step` is the number of points from one candidate to the next.
    """
    table, before = histories.table, histories.before
    which = np.searchsorted(before, orders, side="right") - 1
    return which, table[which, START] + table[which, FIRST] + (orders - before[which]) * step
