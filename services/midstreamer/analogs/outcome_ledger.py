"""Ledger: the outcomes of the grid windows in one run of points, with running counts.

One look-up in the running counts gives three numbers for all windows before a position: how many
were followed by a rise, how many have a known outcome, and how many cannot be analogs. A ledger
is extended in parts, so that the caller may pause between two parts. A written outcome never
changes, and a full buffer is replaced by a larger copy, so other threads may read while the ledger
is extended.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midstreamer.domain import outcome
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Specification

CELLS_AT_ONCE = 1 << 18
"""Maximum of (number of windows) * (window length) in one part of the work. One part takes about
2 ms."""
_CAPACITY_MIN = 16
"""Number of windows for which the buffers of a new ledger have room."""


class Settled(NamedTuple):
    """Outcomes and counts of all windows of a ledger up to some position."""

    outcomes: Floats
    """Scaled outcome of each window, in order; NaN for a window that cannot be an analog."""
    ups: int
    """Number of windows whose outcome is a rise."""
    known: int
    """Number of windows whose outcome is known and not zero."""
    barred: int
    """Number of windows that cannot be analogs: flat windows, and windows with an unusable value in
    them or at their outcome (see `outcome.history`)."""


class Ledger:
    """Outcomes of the grid windows whose first position is in [``first``, ``last``)."""

    def __init__(self, first: int, last: int, specification: Specification) -> None:
        self.first = first + -first % specification.grid
        self._last = last
        self._specification = specification
        self._count = 0
        self._outcomes: Floats = np.empty(_CAPACITY_MIN)
        self._sums: Integers = np.zeros((3, _CAPACITY_MIN + 1), dtype=np.int64)

    def extend(self, values: Floats, start: int) -> bool:
        """Compute the next part of the outcomes known by now; return True when no part is left.

        ``values`` are the untransformed points of the series, shape (n,), beginning at position
        ``start``.
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

    def _add(self, added: Floats) -> None:
        """Append outcomes to the buffers and extend the running counts."""
        count, wanted = self._count, self._count + len(added)
        if wanted > len(self._outcomes):
            size = max(wanted, 2 * len(self._outcomes))
            outcomes, sums = np.empty(size), np.zeros((3, size + 1), dtype=np.int64)
            outcomes[:count] = self._outcomes[:count]
            sums[:, : count + 1] = self._sums[:, : count + 1]
            self._outcomes, self._sums = outcomes, sums
        marks = np.stack([added > 0.0, np.abs(added) > 0.0, np.isnan(added)]).astype(np.int64)
        self._outcomes[count:wanted] = added
        self._sums[:, count + 1 : wanted + 1] = self._sums[:, count, None] + marks.cumsum(axis=1)
        self._count = wanted

    def __len__(self) -> int:
        return self._count

    def settled(self, until: int) -> Settled:
        """Return outcomes and counts of the windows whose points all lie before ``until``."""
        # Read the count before the buffers: while another thread appends, they may have more
        # outcomes than the count says, but never fewer.
        count = self._count
        outcomes, sums = self._outcomes, self._sums
        reached = until - self._specification.window - self.first
        place = min(max(0, reached // self._specification.grid + 1), count)
        ups, known, barred = sums[:, place]
        return Settled(outcomes[:place], int(ups), int(known), int(barred))
