"""Decisions: what was seen, what was foretold, and what was said about it.

An experience is the whole of it: window, analogs, prediction, signal or abstention.  Its id
follows from (series, time, specification) alone, so the same question has one answer for ever.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from midstreamer.domain.match import Matches
from midstreamer.domain.series import Window
from midstreamer.domain.specification import Specification

EXPERIENCE_ID_BYTES = 16
ARMS_MAX = 16
"""Of one decision. A state is as wide as the decisions that it learned: horizon x arms numbers."""


class Direction(StrEnum):
    """What a signal says will happen over the horizon."""

    LONG = "LONG"
    SHORT = "SHORT"


class Reason(StrEnum):
    """Why nothing is said. The first that applies is given, in this order."""

    FLAT_WINDOW = "flat_window"
    """The window does not vary: it looks like nothing."""
    STALE_DATA = "stale_data"
    """The window does not end at the last tick known of its series."""
    NO_MEMORY = "no_memory"
    """Too few analogs whose outcome is known."""
    WARMING_UP = "warming_up"
    """Too few earlier decisions to rank this confidence among."""
    UNBOUNDED = "unbounded"
    """The prediction interval reached its cap."""
    UNLICENSED = "unlicensed"
    """The evidence does not yet say that signals would hold their precision."""
    BELOW_THRESHOLD = "below_threshold"
    """Less confident than the threshold that holds the precision."""


class Evidence(msgspec.Struct, frozen=True):
    """What the fleet found for one window: all that a decision may rest on beside the state."""

    specification: Specification
    window: Window
    matches: Matches
    index: int = -1
    """Position of the window's last point in its series; -1 when it is not stored."""
    newest: bool = True
    """Whether that point was the last known of its series at the window's time."""
    ups: int = 0
    """Past windows of the grid, over all shards, whose known outcome was a rise."""
    known: int = 0
    """Past windows of the grid whose outcome is known and not zero."""
    kernel: str = ""
    """Version of the kernels that compared."""
    agrees: bool = True
    """Whether the window's values are the stored points of its series, to the bit, as far as its
    last point is stored."""
    differs_at: int = -1
    """First value of the window that is not the stored one; -1 when it agrees."""
    stored: float | None = None
    """What is stored in that place; None when nothing is."""


class Decision(msgspec.Struct, frozen=True):
    """One experience as it was decided; nothing in it ever changes."""

    experience_id: bytes
    specification: Specification
    series: str
    time: int
    """Event time of the window's last point."""
    index: int
    """Position of that point in its series; -1: unsettled, never learned from."""
    window: bytes
    """float64, shape (m,): the values as they came, untransformed."""
    direction: Direction | None
    reason: Reason | None
    """Set exactly when direction is None."""
    probability: float
    """P(rise over the horizon), the mixture of all arms."""
    confidence: float
    """max(probability, 1 - probability)."""
    rank: float
    """Share of recent confidences below this one, 0 to 1."""
    change: float
    """Foretold change, median of the analogs, in transformed units (log: a relative change)."""
    low: float
    high: float
    """Prediction interval of the change, same units; may be infinite while warming up."""
    last: float
    """Transformed last value of the window."""
    scale: float
    """Size of a unit outcome, same units as ``change``."""
    arms: tuple[float, ...]
    """P(rise) of each arm, in the order of reasoning.ARMS."""
    judged: bool
    """Whether its verdict counts for the licence."""
    matches: Matches
    state_version: int
    library: str
    kernel: str

    @property
    def emitted(self) -> bool:
        """Whether a signal was given."""
        return self.direction is not None

    @property
    def settles(self) -> bool:
        """Whether a verdict will come."""
        return self.index >= 0

    @property
    def due_index(self) -> int:
        """Position in its series of the point that settles it; -1 when it never settles."""
        return self.index + self.specification.horizon if self.settles else -1


def experience_id(specification: Specification, window: Window) -> bytes:
    """The id of the one experience of this window under this specification."""
    hasher = hashlib.blake2b(digest_size=EXPERIENCE_ID_BYTES)
    hasher.update(specification.digest.encode())
    if window.series:
        hasher.update(f"{window.series}\0{window.time}".encode())
    else:
        hasher.update(b"\0" + window.values)
    return hasher.digest()
