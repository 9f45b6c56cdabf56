"""How long to wait after failures in a row: the back-off rule for all retries; pure."""

from __future__ import annotations

from dataclasses import dataclass

DOUBLINGS_MAX = 16
"""Maximum doublings of the first pause. The longest pause is usually reached after fewer doublings;
this limit only prevents an overflow of the power of two."""


@dataclass(frozen=True)
class Backoff:
    """Pauses that double after each failure, up to a bound, with random jitter."""

    first_s: float = 0.05
    """Seconds of the first pause, before random jitter."""
    most_s: float = 5.0
    """Seconds of the longest pause."""

    def after(self, failures: int, *, dice: float = 1.0) -> float:
        """Return the seconds to wait after ``failures`` failures in a row; 0 counts as 1.

        Half of the pause is fixed, and half is multiplied by ``dice``, a random number from 0 to 1.
        So clients that failed at the same moment do not all retry at the same moment.
        """
        doublings = min(max(failures, 1) - 1, DOUBLINGS_MAX)
        return min(self.most_s, self.first_s * 2.0**doublings) * (0.5 + 0.5 * dice)
