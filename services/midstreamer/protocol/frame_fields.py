"""Structs used as fields of frames, and the largest number of items that one frame may hold.

`protocol.frames` re-exports every name of this module: import them from `protocol.frames`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from midstreamer.domain.series import Column

FRAME_BYTES_MAX = 4 * 1024 * 1024
"""Maximum bytes in the body of one frame. The sender splits work that needs more."""
TICKS_MAX = 100_000
"""Maximum ticks in one Append or Write, over all columns."""
COLUMNS_MAX = 1024
"""Maximum columns in one Append or Write. Each column takes time, even with a single tick: 1024
columns occupy the event loop of sync for about 12 ms, and that of a coordinator for about 1 ms."""
WINDOWS_MAX = 256
"""Maximum windows in one Match."""
DECISIONS_MAX = 256
"""Maximum decisions in one Write, and maximum experience ids in one Lookup."""
CHANGES_MAX = 1024
"""Maximum changes of the feed in one Changes frame."""
RUNS_MAX = 1024
"""Maximum runs of points in one Load."""


class Level(StrEnum):
    """How safe data must be before it is acknowledged; the sender of the data chooses."""

    RECEIVED = "received"
    """The data is in the coordinator's memory. It is lost if that process crashes."""
    SPOOLED = "spooled"
    """The coordinator has written the data to its disk with fsync, for which it needs a volume."""
    DURABLE = "durable"
    """The data is committed in PostgreSQL."""


class SeriesSummary(msgspec.Struct, frozen=True):
    """Summary of one stored series, as a Surveyed frame lists it."""

    series: str
    count: int
    first_time: int
    last_time: int
    last_value: float


class Caller(msgspec.Struct, frozen=True):
    """One part of a Write: the client that asked for it, and how much of the Write is its own.

    A part begins where the part before it ends, in ``Write.columns`` and in ``Write.decisions``.
    """

    identity: str
    """``<kind>/<id>`` of the client, from its certificate. Empty: not known."""
    columns: int = 0
    """Number of columns that belong to this part."""
    decisions: int = 0
    """Number of decisions that belong to this part."""
    trace: str = ""
    """W3C ``traceparent`` of the client's span. Empty: the client's trace is not recorded."""


class PartRefused(msgspec.Struct, frozen=True):
    """A part of a Write that sync refused, with the reason as ``code`` and ``message``."""

    place: int
    """Index of the part in ``Write.callers``."""
    code: str
    message: str


class Run(msgspec.Struct, frozen=True):
    """A range of points of one series: positions in ``[start, stop)``."""

    series: str
    start: int
    stop: int


class Part(msgspec.Struct, frozen=True):
    """The stored points in the range of a Run."""

    column: Column
    start: int
    """Position in the series of the first point of ``column``."""
    count: int
    """Number of points that the whole series has."""


class Points(msgspec.Struct, frozen=True, tag=True):
    """A change of the feed: points were appended to a series."""

    start: int
    """Position in the series of the first new point."""
    column: Column


class Learned(msgspec.Struct, frozen=True, tag=True):
    """A change of the feed: the learning state of a stream has a new version."""

    stream: str
    version: int
    state: bytes
    """The state as `reasoning.encode` writes it. Empty if the receiver's Tail has
    ``states=False``."""


class Skipped(msgspec.Struct, frozen=True, tag=True):
    """Stands for a received change whose kind this version does not know. It is never sent."""

    kind: str
    """Name of the unknown kind."""
