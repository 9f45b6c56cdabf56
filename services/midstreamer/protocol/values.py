"""What frames are made of beside the values of the domain, and how much of it goes into one frame.

`protocol.frames` names all of this too; import it from there.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from midstreamer.domain.series import Column

FRAME_BYTES_MAX = 4 * 1024 * 1024
"""No frame is larger; longer work is split by its sender."""
TICKS_MAX = 100_000
COLUMNS_MAX = 1024
"""Of one Append or Write. Each column costs its reader some 10 us besides its ticks: so many keep
the event loop of sync for about 12 ms, and that of a coordinator for 1 ms."""
WINDOWS_MAX = 256
DECISIONS_MAX = 256
CHANGES_MAX = 1024
RUNS_MAX = 1024


class Level(StrEnum):
    """What "acknowledged" means; asked for by the writer."""

    RECEIVED = "received"
    """In the coordinator's memory; may be lost."""
    SPOOLED = "spooled"
    """Fsynced at the coordinator; only where it has a volume."""
    DURABLE = "durable"
    """Committed in PostgreSQL."""


class SeriesSummary(msgspec.Struct, frozen=True):
    """One series in a survey."""

    series: str
    count: int
    first_time: int
    last_time: int
    last_value: float


class Caller(msgspec.Struct, frozen=True):
    """Who asked for the next so many columns and decisions of a Write: one part of it."""

    identity: str
    """``<kind>/<id>``, from the certificate that the coordinator judged; empty: not known."""
    columns: int = 0
    decisions: int = 0
    trace: str = ""
    """The span that this was asked in, as a ``traceparent``, when its trace is kept."""


class PartRefused(msgspec.Struct, frozen=True):
    """A part of a Write that was not taken: which of its callers, and why."""

    place: int
    code: str
    message: str


class Run(msgspec.Struct, frozen=True):
    """Points of one series with positions in ``[start, stop)``."""

    series: str
    start: int
    stop: int


class Part(msgspec.Struct, frozen=True):
    """The points of a Run that exist."""

    column: Column
    start: int
    count: int
    """Points the whole series has."""


class Points(msgspec.Struct, frozen=True, tag=True):
    """Change: points were appended at these positions."""

    start: int
    column: Column


class Learned(msgspec.Struct, frozen=True, tag=True):
    """Change: a stream's learning state has a new version."""

    stream: str
    version: int
    state: bytes
    """reasoning.encode of it; empty where it is not told."""


class Skipped(msgspec.Struct, frozen=True, tag=True):
    """A change of a kind that this version does not know; it is in its place, and never sent."""

    kind: str
