"""The outcomes of the grid windows of one run of points, with running counts beside them.

Rises, known outcomes and windows that are no analogs are counted up to any time by one look-up.
A ledger grows with its points, a part at a time, so that whoever extends it may stop in between.
Buffers are replaced and never rewritten below the count, so others may read meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midstreamer.domain import outcome
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Specification

CELLS_AT_ONCE = 1 << 18
"""Points of the windows that are settled in one part, some 2 ms."""
_CAPACITY_MIN = 16


class Settled(NamedTuple):
    """What a ledger says of the windows up to some point."""

    outcomes: Floats
    """Of each window, in order; NaN for those that are no analogs: flat, or without a logarithm."""
    ups: int
    known: int
    barred: int
    """How many are no analogs."""


class Ledger:
    """Outcomes of the grid windows that begin in [first, last)."""

    def __init__(self, first: int, last: int, specification: Specification) -> None:
        self.first = first + -first % specification.grid
        self._last = last
        self._specification = specification
        self._count = 0
        self._outcomes: Floats = np.empty(_CAPACITY_MIN)
        self._sums: Integers = np.zeros((3, _CAPACITY_MIN + 1), dtype=np.int64)

    def extend(self, values: Floats, start: int) -> bool:
        """Settle the next part of the windows whose outcome is known by now.

        ``values`` are as they came and begin at ``start``.  True when nothing is left to settle.
        """
        specification = self._specification
        begin = self.first + self._count * specification.grid
        stop = min(start + len(values) - specification.horizon, self._last + specification.window)
        firsts = outcome.grid_firsts(begin, stop, specification)
        firsts = firsts[firsts < self._last]
        part = firsts[: max(1, CELLS_AT_ONCE // specification.window)]
        if part.size:
            offset = int(part[0])
            end = int(part[-1]) + specification.window + specification.horizon
            raw = values[offset - start : end - start]
            points = outcome.history(raw, specification.transform)
            self._add(outcome.outcomes(points, part - offset, specification))
        return part.size == firsts.size

    def _add(self, made: Floats) -> None:
        count, wanted = self._count, self._count + len(made)
        if wanted > len(self._outcomes):
            size = max(wanted, 2 * len(self._outcomes))
            outcomes, sums = np.empty(size), np.zeros((3, size + 1), dtype=np.int64)
            outcomes[:count] = self._outcomes[:count]
            sums[:, : count + 1] = self._sums[:, : count + 1]
            self._outcomes, self._sums = outcomes, sums
        marks = np.stack([made > 0.0, np.abs(made) > 0.0, np.isnan(made)]).astype(np.int64)
        self._outcomes[count:wanted] = made
        self._sums[:, count + 1 : wanted + 1] = self._sums[:, count, None] + marks.cumsum(axis=1)
        self._count = wanted

    def __len__(self) -> int:
        return self._count

    def settled(self, until: int) -> Settled:
        """Of the windows whose last point lies before ``until``."""
        count = self._count  # before the buffers: what replaces them holds as many, and more
        made, sums = self._outcomes, self._sums
        reached = until - self._specification.window - self.first
        place = min(max(0, reached // self._specification.grid + 1), count)
        ups, known, barred = sums[:, place]
        return Settled(made[:place], int(ups), int(known), int(barred))
