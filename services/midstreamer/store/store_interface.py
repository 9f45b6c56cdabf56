"""The interface of a store, and the values that pass through it.

Two implementations pass the same conformance suite (tests/conformance/stores): `store.postgres` for
production, and `store.memory`, which keeps everything in dicts.

Only one transaction writes at a time, because `Store.transaction` first locks the row with the
feed's position.  This costs nothing, because the feed needs the commits one after another anyway.
And it makes every read inside a transaction stable: no other writer can add or change a row
meanwhile.

All operations work on batches; each is one round trip, whatever the number of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from midstreamer.domain.decision import Decision
from midstreamer.domain.series import Column, Floats, Integers
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Change, Learned, Member, SeriesSummary

Heard = Callable[[int], None]
"""Callback that gets a committed position of the feed."""

SNAPSHOT_VERSIONS = 256
"""A snapshot of a learning state is stored each time its version has grown by this number, and is
never deleted.  Other versions can be computed from a snapshot and the events after it."""


class Ticks(NamedTuple):
    """Stored points of one series, in rising order of time."""

    times: Integers
    values: Floats


class Point(NamedTuple):
    """One stored point."""

    time: int
    value: float


class Span(NamedTuple):
    """A range of times of one series, from ``first`` to ``last``, with both included."""

    series: str
    first: int
    last: int


class Run(NamedTuple):
    """A run of positions of one series; ``stop`` is one past the last position."""

    series: str
    start: int
    stop: int


class Kind(StrEnum):
    """Kind of an event that a stream learned: a decision or a verdict."""

    DECISION = "D"
    VERDICT = "V"


class Event(NamedTuple):
    """One step of a stream's learning; after the step the state has version ``version``."""

    stream: str
    version: int
    kind: Kind
    experience_id: bytes


class StoredState(NamedTuple):
    """An encoded learning state of a stream."""

    stream: str
    version: int
    body: bytes


class Unreadable(NamedTuple):
    """A stored decision whose body this version cannot decode, with the error as ``detail``."""

    experience_id: bytes
    detail: str


class Mark(NamedTuple):
    """The progress of one writer, which is a coordinator's identity and incarnation."""

    identity: str
    incarnation: str
    sequence: int
    """Highest sequence number of a Write that was received from the writer."""
    gaps: int
    """Count of sequence numbers that were skipped."""
    repeats: int
    """Count of Writes that were received again."""


class Usage(NamedTuple):
    """Number of series and of streams, for one identity or for all together."""

    series: int = 0
    streams: int = 0


NOTHING = Usage()


@dataclass(frozen=True)
class Effects:
    """Everything that one transaction adds to the store."""

    points: Sequence[tuple[int, Column]] = ()
    """New points, as pairs (position of the first point of a column, the column). The pairs of one
    series are in rising order of position."""
    decisions: Sequence[Decision] = ()
    verdicts: Sequence[Verdict] = ()
    events: Sequence[Event] = ()
    states: Sequence[tuple[Specification, StoredState]] = ()
    snapshots: Sequence[StoredState] = ()
    marks: Sequence[Mark] = ()
    changes: Sequence[Change] = ()
    series_makers: Mapping[str, str] = field(default_factory=dict)
    """For each new series, the identity whose quota counts it. A new series that is not listed
    here counts for the identity ''."""
    stream_makers: Mapping[str, str] = field(default_factory=dict)
    """For each new stream, the identity whose quota counts it. A new stream that is not listed
    here counts for the identity ''."""

    @property
    def brought(self) -> dict[str, Usage]:
        """Number of new series and streams that each identity creates by this transaction."""
        learned = Counter(event.stream for event in self.events)
        series = Counter(
            self.series_makers.get(column.series, "") for start, column in self.points if start == 0
        )
        streams = Counter(
            self.stream_makers.get(state.stream, "")
            for _, state in self.states
            if state.version == learned[state.stream]
        )
        return {who: Usage(series[who], streams[who]) for who in sorted({*series, *streams})}

    @property
    def rows(self) -> int:
        """Number of ticks, decisions and verdicts that the transaction adds, all together."""
        ticks = sum(len(column) for _, column in self.points)
        return ticks + len(self.decisions) + len(self.verdicts)


@dataclass(frozen=True)
class Totals:
    """How many ticks, decisions and verdicts are stored, at one position of the feed."""

    position: int
    ticks: int
    decisions: int
    verdicts: int


@dataclass(frozen=True)
class CataloguePage:
    """A page of series, sorted by name; ``more`` says whether further series follow the page."""

    position: int
    series: tuple[SeriesSummary, ...]
    more: bool


@dataclass(frozen=True)
class LoadedRun:
    """Points of one series as they are at one position of the feed."""

    position: int
    """Position of the change feed."""
    start: int
    """Position of the first of these points within the series."""
    times: Integers
    values: Floats
    count: int
    """Number of points in the whole series."""


@dataclass(frozen=True)
class FeedPage:
    """Changes after some position of the feed, up to ``position``.

    Of the changes to the learning state of a stream, a page has only the last, with the newest
    state: followers do not need older states, and storing them would make the feed large.
    """

    changes: tuple[Change, ...]
    position: int


@dataclass(frozen=True)
class Present:
    """The members at the present position of the feed, from which a new follower starts."""

    position: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class FleetView:
    """Result of an operation on the leases: all members whose lease has not expired."""

    position: int
    members: tuple[Member, ...]
    changed: bool
    """Whether the operation added a change to the feed, at ``position``."""
    drain: bool = False
    """Whether the member that renewed its lease has been asked to drain."""


@dataclass(frozen=True)
class Status:
    """The output of `midstreamer db status`."""

    server: str
    """Name and version of the database server."""
    schema: int
    """Number of the newest migration that has run."""
    position: int
    """Position of the change feed."""
    rows: Mapping[str, int]
    """Number of rows, by table."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Size of each table with its indexes, in bytes."""


class Transaction(Protocol):
    """A write transaction: reads, then one `apply`; no other transaction writes meanwhile."""

    @property
    def position(self) -> int:
        """Position of the feed at the start of the transaction."""

    async def summaries(self, names: Sequence[str]) -> dict[str, SeriesSummary]:
        """Return the summaries of the named series; series that do not exist are left out."""

    async def ticks(self, times: Mapping[str, Integers]) -> dict[str, Ticks]:
        """Return the stored points at these times of each series."""

    async def points_at(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Point]:
        """Return the stored points at these (series, position)."""

    async def windows(self, runs: Sequence[Run]) -> dict[Run, Floats]:
        """Return the values of each run.

        Of a run that is stored only in part, return the stored part.  A run of which nothing is
        stored is left out.
        """

    async def decisions(
        self, experience_ids: Sequence[bytes]
    ) -> dict[bytes, Decision | Unreadable]:
        """Return the stored decisions with these ids."""

    async def due(self, runs: Sequence[Run]) -> list[Decision | Unreadable]:
        """Return the decisions without a verdict whose due position lies in one of the runs."""

    async def settled(self, spans: Sequence[Span], limit: int) -> list[Verdict]:
        """Return the verdicts with a due time in one of the spans; at most the latest ``limit``."""

    async def states(self, known: Mapping[str, int]) -> dict[str, StoredState]:
        """Lock streams, and return the learning states that the caller does not have yet.

        ``known`` maps each stream to the version of the caller's state, or to 0 if it has none.  A
        stream whose stored state has this version is left out.
        """

    async def known_streams(self, streams: Sequence[str]) -> set[str]:
        """Return those of the named streams that have a state."""

    async def usage(self, identities: Sequence[str]) -> tuple[Usage, dict[str, Usage]]:
        """Return the numbers of series and streams: in all, and of each of these identities.

        An identity that created nothing is left out.
        """

    async def marks(self, writers: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Mark]:
        """Return the progress of these writers, each given as (identity, incarnation)."""

    async def apply(self, effects: Effects) -> int:
        """Write the effects and return the new position of the feed."""


class Store(Protocol):
    """A durable store. Every method may raise StoreError, and every method may be retried."""

    async def open(self) -> None:
        """Connect and migrate the schema."""

    async def close(self) -> None:
        """Close every connection; safe to call twice."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Return the context of a write transaction; only one can be open at a time.

        The transaction commits when the context ends, and rolls back on an error.
        """

    async def position(self) -> int:
        """Return the last committed position of the feed."""

    async def totals(self) -> Totals:
        """Return how many ticks, decisions and verdicts are stored."""

    async def catalogue(self, after: str, limit: int) -> CataloguePage:
        """Return at most ``limit`` series with names after ``after``, in order of code points."""

    async def load(self, runs: Sequence[Run], limit: int) -> list[LoadedRun]:
        """Return the points of these runs, in order, until ``limit`` points in all are returned.

        The last run returned may be cut, and the runs after it are left out.  Raise UnknownSeries
        if a series does not exist.
        """

    async def experiences(
        self, experience_ids: Sequence[bytes]
    ) -> tuple[list[Decision], list[Verdict]]:
        """Return the stored decisions and verdicts with these ids."""

    async def feed(self, after: int, limit: int, *, states: bool = True) -> FeedPage:
        """Return the next page of the feed after a position, with or without learning states.

        Raise Behind if the page would begin with a change that was trimmed.
        """

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        """Return at most ``limit`` changes after a position, one for each position.

        Every change to a learning state holds the newest state of its stream.  Raise Behind if a
        change right after that position was trimmed.
        """

    async def watch(self, heard: Heard, *, period_s: float) -> None:
        """Call ``heard`` with committed positions of the feed until a StoreError is raised.

        A position is only a hint; read the feed to see what is there.  Most commits of other syncs
        are notified immediately.  The position is also read every ``period_s`` seconds, because
        an older version sends no notification.  Commits of this store itself may be left out.
        """

    async def state(self, stream: str) -> tuple[int, StoredState | None]:
        """Return a position of the feed, and the stream's newest state at this position.

        The state is None if the stream has learned nothing.
        """

    async def present(self) -> Present:
        """Return all members, at one position of the feed."""

    async def trim(self, keep: int) -> int:
        """Delete all but the last ``keep`` changes of the feed; return how many were deleted."""

    async def renew(self, member: Member, lease_s: float) -> FleetView:
        """Take or renew a lease.

        Add a change to the feed if the lease is new or a field of `seen_by_others` has changed.
        """

    async def leave(self, name: str) -> FleetView:
        """Delete the lease of a member; add a change to the feed if there was such a lease."""

    async def retire(self, name: str) -> Member | None:
        """Mark a member to be drained, and return it; None if the member has no lease.

        The answers to its renewals then ask it to drain.  The mark is for the present incarnation:
        when the process starts again, it is not asked.
        """

    async def expire(self) -> FleetView:
        """Remove members with expired leases; if any were removed, add a change to the feed."""

    async def extend(self, lease_s: float) -> None:
        """Let every lease last at least ``lease_s`` seconds from now.

        Sync calls this after an outage of the store, in which no member could renew its lease.
        """

    async def status(self) -> Status:
        """Return the schema version, row counts and table sizes."""

    async def streams(self) -> list[tuple[Specification, StoredState]]:
        """Return all learning states with their specifications."""

    async def snapshot(self, stream: str, version: int) -> StoredState | None:
        """Return a stream's newest snapshot that is not newer than ``version``."""

    async def events(self, stream: str, after: int, upto: int) -> list[Decision | Verdict]:
        """Return the events that led a stream from version ``after`` to ``upto``, in order."""

    async def faults(self) -> list[str]:
        """Return a sentence for each broken invariant of the stored rows."""


def alone(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return the changes, but of the `Learned` changes of each stream only the last one."""
    last = {c.stream: at for at, c in enumerate(changes) if isinstance(c, Learned)}
    return tuple(
        change
        for at, change in enumerate(changes)
        if not isinstance(change, Learned) or last[change.stream] == at
    )


def seen_by_others(member: Member) -> tuple[object, ...]:
    """Return those fields of a lease that other members must know.

    If a renewal changes one of them, a change is added to the feed.  The other fields change at
    almost every renewal: for example the feed position that the member has reached.
    """
    stage = member.evidence.get("stage", "")
    return member.incarnation, member.address, member.whole_for, stage


def fitting(runs: Sequence[Run], counts: Mapping[str, int], limit: int) -> list[Run]:
    """Return these runs in order, until they hold ``limit`` points in all.

    Positions that are not stored are cut off, and so are the points beyond the limit.  ``counts``
    holds the number of stored points of each series.
    """
    found: list[Run] = []
    for run in runs:
        start = max(run.start, 0)
        stop = max(start, min(run.stop, counts[run.series]))
        if found and limit <= 0 < stop - start:
            break
        found.append(Run(run.series, start, min(stop, start + limit)))
        limit -= found[-1].stop - start
        if found[-1].stop < stop:
            break
    return found
