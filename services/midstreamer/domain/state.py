"""The learning state of one stream: all that a decision may rest on beside its evidence.

One value, immutable, folded by `reasoning.learn` in event time and carried by the change feed.
It is small on purpose (some 10 kB for twenty series): arrays travel as little-endian bytes.

Decisions of the newest time wait in ``waiting``, sorted, until one of a later time comes; verdicts
wait in ``known`` until decisions are later than their due time.  So decisions of one time never
see each other or what came after them, and the order of arrival leaves no trace.

States are compared by their encoded bytes; ``==`` asks whether two names mean one object.
"""

from __future__ import annotations

import msgspec

from midstreamer.domain.specification import Specification


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """What must be remembered of a decision until its verdict comes."""

    experience_id: bytes
    series: str
    time: int
    phase: int
    """Position modulo horizon: outcomes of one phase of one series never overlap."""
    arms: tuple[float, ...]
    doubt: float
    """The smaller of the two probabilities: 1 - confidence, exact near 0."""
    low: float
    high: float
    """The analogs' own interval in scaled units, before it is widened."""
    rank: float
    emitted: bool
    teaches: bool
    """False when there was nothing to foretell from: a flat window, too few analogs."""
    epoch: int = -1
    """Revocations before it when it was made without a licence; -1 when made with one."""


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What a verdict says of a pending decision."""

    experience_id: bytes
    series: str
    time: int
    due_time: int
    outcome: float
    hit: bool
    covered: bool
    losses: tuple[float, ...]
    """Brier loss of each arm."""
    void: bool = False
    """The decision is over and teaches nothing."""


class Tracker(msgspec.Struct, frozen=True, array_like=True):
    """How far the analogs' interval must be widened to cover as often as it says."""

    width: float | None = None
    """Added on both sides, in scaled units, may be negative; None while warming up."""
    scores: bytes = b""
    """float64: how far recent outcomes lay outside (above 0) or inside the analogs' interval."""
    capped: bool = False
    """Whether the last update would have gone past the cap."""
    caps: int = 0
    """How often that happened."""


class Licence(msgspec.Struct, frozen=True, array_like=True):
    """Whether signals may be given, and above which rank."""

    held: bool
    threshold: float
    """Rank a decision must reach; falls while signals hold their precision."""
    error_rate: float = 1.0
    """Of recent signals; 1 when the licence is new: pending signals are charged with it."""
    pending: int = 0
    """Signals whose verdict has not come."""
    revocations: int = 0
    series: tuple[str, ...] = ()
    """In order of appearance; the first axis of ``wealth`` and ``bets``."""
    wealth: bytes = b""
    """float64, shape (series, horizon, probes, stakes): what the bets have made."""
    bets: bytes = b""
    """int64, shape (series, horizon, probes): how many were settled."""


class State(msgspec.Struct, frozen=True, eq=False, array_like=True):
    """Everything learned in one stream."""

    specification: Specification
    version: int
    """How many events have been learned."""
    time: int
    """Of the newest decision; events of this time wait, and verdicts of later times."""
    waiting: tuple[Pending, ...]
    """Decisions not folded yet, by (time, series, id)."""
    known: tuple[Known, ...]
    """Verdicts not folded yet, by (due time, series, time)."""
    losses: bytes
    """float64, shape (horizon, arms): sums of known Brier losses."""
    slope: tuple[float, float]
    """Sums of d * d and d * g: the calibrated arm's regression of the outcome on the vote."""
    tracker: Tracker
    licence: Licence
    doubts: bytes
    """float32: those of recent decisions, oldest first; ranks are taken among them."""
    pending: dict[bytes, Pending]
    last: dict[str, int]
    """Time of the newest decision folded, by series."""

    @property
    def stream(self) -> str:
        """The stream that this state belongs to."""
        return self.specification.stream
