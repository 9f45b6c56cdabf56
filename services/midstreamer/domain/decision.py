"""Decisions: a window, its analogs, the forecast, and the signal or the abstention.

One such record is also called an experience. Its id is a hash of the specification and of the
window's series and time, so the same request always gets the same id. For a window without a series
the hash takes its values instead.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from midstreamer.domain.match import Matches
from midstreamer.domain.series import Window
from midstreamer.domain.specification import Specification

EXPERIENCE_ID_BYTES = 16
"""Length of an experience id."""
ARMS_MAX = 16
"""Maximum arms (forecasting methods) that one decision may carry.

The limit also bounds the size of a learning state, which keeps horizon x arms numbers."""


class Direction(StrEnum):
    """The direction in which a signal says the series will move over the horizon."""

    LONG = "LONG"
    SHORT = "SHORT"


class Reason(StrEnum):
    """Why a decision abstains. The reasons are listed in the order in which they are checked; the
    first that applies is given.
    """

    FLAT_WINDOW = "flat_window"
    """The window does not vary, so it cannot be compared with other windows."""
    STALE_DATA = "stale_data"
    """The window does not end at the newest known tick of its series."""
    NO_MEMORY = "no_memory"
    """Too few analogs with a known outcome were found."""
    WARMING_UP = "warming_up"
    """Too few earlier decisions or verdicts exist to rank the confidence or set the interval."""
    UNBOUNDED = "unbounded"
    """The prediction interval is infinite, or it was cut to the largest allowed width."""
    UNLICENSED = "unlicensed"
    """Past verdicts do not yet show that signals would keep the target precision."""
    BELOW_THRESHOLD = "below_threshold"
    """The rank of the confidence is too low: such signals might miss the target precision."""


class Evidence(msgspec.Struct, frozen=True):
    """What the fleet found for one window. A decision depends on this and on the learning state
    alone.
    """

    specification: Specification
    window: Window
    matches: Matches
    index: int = -1
    """Position of the window's last point in its series; -1 when the window is not stored."""
    newest: bool = True
    """Whether the window ends at the newest point that its series had at the window's time.

    It is False if the stored series has a point before the window's time and none at that time. For
    example, the window's time lies between two stored points. In all other cases it is True."""
    ups: int = 0
    """Number of past windows on the grid, over all shards, after which the value rose."""
    known: int = 0
    """Number of past windows on the grid, over all shards, whose outcome is known and not zero."""
    kernel: str = ""
    """Version of the kernels that computed the distances."""
    agrees: bool = True
    """Whether the window's values equal the stored points of its series, bit for bit.

    Only points that are stored already are compared."""
    differs_at: int = -1
    """Position in the window of the first value that differs from the stored one; -1 when none
    does."""
    stored: float | None = None
    """The stored value at position `differs_at`; None when no value is stored there."""


class Decision(msgspec.Struct, frozen=True):
    """One decision with everything that it was based on. It never changes."""

    experience_id: bytes
    specification: Specification
    series: str
    time: int
    """Event time of the window's last point."""
    index: int
    """Position of the window's last point in its series; -1 when the window is not stored.

    A decision with index -1 gets no verdict and is never learned from."""
    window: bytes
    """float64, shape (m,): the window's values as received, not transformed."""
    direction: Direction | None
    """The signal, or None for an abstention."""
    reason: Reason | None
    """Why the decision abstains. Set exactly when ``direction`` is None."""
    probability: float
    """P(rise over the horizon): the weighted mean over all arms (forecasting methods)."""
    confidence: float
    """max(probability, 1 - probability)."""
    rank: float
    """Share of recent decisions with a lower confidence than this one, 0 to 1."""
    change: float
    """Forecast change: the median over the analogs, as a difference of transformed values.

    With the log transform it is a difference of logarithms, which is close to the relative change.
    """
    low: float
    """Lower end of the prediction interval of the change, in the units of ``change``.

    It may be infinite during warm-up."""
    high: float
    """Upper end of the prediction interval of the change, in the units of ``change``.

    It may be infinite during warm-up."""
    last: float
    """The window's last value after the transform of the specification, e.g. its logarithm."""
    scale: float
    """The change that counts as an outcome of 1, in the units of ``change``."""
    arms: tuple[float, ...]
    """P(rise) of each arm (forecasting method), in the order of `reasoning.ARMS`."""
    judged: bool
    """Whether the verdict on this decision counts for the licence: only confident decisions count.

    The window must also be stored, and none of the first four of `Reason` may apply."""
    matches: Matches
    state_version: int
    library: str
    kernel: str

    @property
    def emitted(self) -> bool:
        """Whether the decision is a signal, not an abstention."""
        return self.direction is not None

    @property
    def settles(self) -> bool:
        """Whether the decision will get a verdict: its window must be stored."""
        return self.index >= 0

    @property
    def due_index(self) -> int:
        """Position in the series of the point that settles the decision; -1 if it never settles."""
        return self.index + self.specification.horizon if self.settles else -1


def experience_id(specification: Specification, window: Window) -> bytes:
    """Return the id of this window under this specification.

    A window of a stored series is named by its series and time, any other window by its values.
    """
    hasher = hashlib.blake2b(digest_size=EXPERIENCE_ID_BYTES)
    hasher.update(specification.digest.encode())
    if window.series:
        hasher.update(f"{window.series}\0{window.time}".encode())
    else:
        hasher.update(b"\0" + window.values)
    return hasher.digest()
