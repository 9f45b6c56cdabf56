"""How long to wait after failures in a row: the one rule for all who try again; pure."""

from __future__ import annotations

from dataclasses import dataclass

DOUBLINGS_MAX = 16
"""Beyond, the bound has long been reached."""


@dataclass(frozen=True)
class Backoff:
    """Pauses that double, up to a bound, and differ by chance."""

    first_s: float = 0.05
    most_s: float = 5.0

    def after(self, failures: int, *, dice: float = 1.0) -> float:
        """Seconds to wait after so many failures in a row, at least one.

        Half is fixed and half is diced, with ``dice`` between 0 and 1: what failed together does
        not come back together.
        """
        doublings = min(max(failures, 1) - 1, DOUBLINGS_MAX)
        return min(self.most_s, self.first_s * 2.0**doublings) * (0.5 + 0.5 * dice)
