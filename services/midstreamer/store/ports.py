"""What we need of a store, and nothing about how it is done.

Two implementations pass one conformance suite (tests/conformance/stores): `store.postgres`, the
real one, and `store.memory`, which keeps everything in dicts.

Writing goes through one transaction at a time: `Store.transaction` takes the row of the feed's
head first, so whoever writes is alone until it commits or rolls back.  That costs nothing (the
order of the feed *is* the order of commits) and makes every read inside it stable: what it saw
stored is stored, what it did not see cannot appear.

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

SNAPSHOT_VERSIONS = 256
"""A state's body is kept for good at every multiple of this: others are folded from there."""


class Ticks(NamedTuple):
    """Stored points of one series, by rising time."""

    times: Integers
    values: Floats


class Point(NamedTuple):
    """One stored point."""

    time: int
    value: float


class Span(NamedTuple):
    """A run of event times of one series, both ends included."""

    series: str
    first: int
    last: int


class Run(NamedTuple):
    """A run of positions of one series, ``stop`` excluded."""

    series: str
    start: int
    stop: int


class Kind(StrEnum):
    """What a stream learned from."""

    DECISION = "D"
    VERDICT = "V"


class Event(NamedTuple):
    """One step of a stream's learning: after it the state has ``version``."""

    stream: str
    version: int
    kind: Kind
    experience_id: bytes


class StoredState(NamedTuple):
    """A learning state as it is stored."""

    stream: str
    version: int
    body: bytes


class Unreadable(NamedTuple):
    """A stored decision whose body this version cannot read."""

    experience_id: bytes
    detail: str


class Mark(NamedTuple):
    """How far a writer has come, and what was noticed on the way."""

    identity: str
    incarnation: str
    sequence: int
    gaps: int
    """Sequence numbers that never came."""
    repeats: int
    """Writes that came again."""


class Usage(NamedTuple):
    """How many series and streams there are, of one identity or of all."""

    series: int = 0
    streams: int = 0


NOTHING = Usage()


@dataclass(frozen=True)
class Effects:
    """Everything one transaction adds; positions and versions are already decided."""

    points: Sequence[tuple[int, Column]] = ()
    """(position of the first, column), of each series by rising position."""
    decisions: Sequence[Decision] = ()
    verdicts: Sequence[Verdict] = ()
    events: Sequence[Event] = ()
    states: Sequence[tuple[Specification, StoredState]] = ()
    snapshots: Sequence[StoredState] = ()
    marks: Sequence[Mark] = ()
    changes: Sequence[Change] = ()
    series_makers: Mapping[str, str] = field(default_factory=dict)
    """Of each new series, the identity that it is counted for; '' where none is told."""
    stream_makers: Mapping[str, str] = field(default_factory=dict)
    """Of each new stream, likewise."""

    @property
    def brought(self) -> dict[str, Usage]:
        """How many new series and streams each identity brings."""
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
        """Ticks, decisions and verdicts."""
        ticks = sum(len(column) for _, column in self.points)
        return ticks + len(self.decisions) + len(self.verdicts)


@dataclass(frozen=True)
class Totals:
    """What is stored, in numbers, at one position."""

    position: int
    ticks: int
    decisions: int
    verdicts: int


@dataclass(frozen=True)
class CataloguePage:
    """Some series by name, at one position; ``more`` when others follow."""

    position: int
    series: tuple[SeriesSummary, ...]
    more: bool


@dataclass(frozen=True)
class LoadedRun:
    """A part of one series, true at ``position``."""

    position: int
    start: int
    times: Integers
    values: Floats
    count: int
    """Points the whole series has."""


@dataclass(frozen=True)
class FeedPage:
    """Changes after a position; ``position`` is the last one they reach.

    Of each stream's Learned only the last is told, with the newest state: the states between
    are of no use to anybody who comes late, and keeping them would make the feed large.
    """

    changes: tuple[Change, ...]
    position: int


@dataclass(frozen=True)
class Present:
    """Where a tailer begins that asks for no past: the members at ``position``."""

    position: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class FleetView:
    """Everybody with a live lease; ``changed`` when others must be told."""

    position: int
    members: tuple[Member, ...]
    changed: bool
    drain: bool = False
    """The member that renewed has been asked to drain."""


@dataclass(frozen=True)
class Status:
    """What `midstreamer db status` shows."""

    server: str
    schema: int
    position: int
    rows: Mapping[str, int]
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each table with its indexes."""


class Transaction(Protocol):
    """Reads that stay true, and one write, until the block ends."""

    @property
    def position(self) -> int:
        """The feed's position when the transaction began."""

    async def summaries(self, names: Sequence[str]) -> dict[str, SeriesSummary]:
        """Those of the named series that exist."""

    async def ticks(self, times: Mapping[str, Integers]) -> dict[str, Ticks]:
        """Those of the points at these times, of each series, that exist."""

    async def points_at(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Point]:
        """Those of the (series, position) that exist."""

    async def windows(self, runs: Sequence[Run]) -> dict[Run, Floats]:
        """Values of each run, as far as it is stored."""

    async def decisions(
        self, experience_ids: Sequence[bytes]
    ) -> dict[bytes, Decision | Unreadable]:
        """Those that are stored."""

    async def due(self, runs: Sequence[Run]) -> list[Decision | Unreadable]:
        """Decisions without a verdict whose due position lies in one of the runs."""

    async def settled(self, spans: Sequence[Span], limit: int) -> list[Verdict]:
        """Verdicts whose due time lies in one of the spans; the latest ``limit`` of them."""

    async def states(self, known: Mapping[str, int]) -> dict[str, StoredState]:
        """Lock these streams; return the states whose version is not the known one."""

    async def known_streams(self, streams: Sequence[str]) -> set[str]:
        """Those of the named streams that have a state."""

    async def usage(self, identities: Sequence[str]) -> tuple[Usage, dict[str, Usage]]:
        """What there is in all, and of those of these identities that made something."""

    async def marks(self, writers: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Mark]:
        """The marks of these (identity, incarnation)."""

    async def apply(self, effects: Effects) -> int:
        """Write everything; return the feed's position after it."""


class Store(Protocol):
    """Durable memory. Every method may raise StoreError, and all may be tried again."""

    async def open(self) -> None:
        """Connect and bring the schema up to date."""

    async def close(self) -> None:
        """Let go of every connection; safe to call twice."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Alone among writers; commits when the block ends well, else rolls back."""

    async def position(self) -> int:
        """The last committed position of the feed."""

    async def totals(self) -> Totals:
        """How much is stored."""

    async def catalogue(self, after: str, limit: int) -> CataloguePage:
        """At most ``limit`` series whose names come after a name, in the order of code points."""

    async def load(self, runs: Sequence[Run], limit: int) -> list[LoadedRun]:
        """Of the first of these runs, at most ``limit`` points in all; UnknownSeries.

        The last one told may be cut, and those behind it are left out.
        """

    async def experiences(
        self, experience_ids: Sequence[bytes]
    ) -> tuple[list[Decision], list[Verdict]]:
        """What is stored of these."""

    async def feed(self, after: int, limit: int, *, states: bool = True) -> FeedPage:
        """Changes after a position, with or without the states learned; Behind when trimmed."""

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        """At most ``limit`` changes after a position, one for each position; Behind when trimmed.

        Every Learned comes with the newest state of its stream.
        """

    async def watch(self, heard: Heard, *, period_s: float) -> None:
        """Call ``heard`` with positions that were committed by whomever, until StoreError.

        A position is a hint: look what is there.  Most commits of others are heard of at once.
        The position is also read every ``period_s``, because a version before this one notifies
        nobody.  Commits by this store's own `transaction` may be left out: who made them knows.
        """

    async def state(self, stream: str) -> tuple[int, StoredState | None]:
        """A position, and the newest state of a stream then; None when nothing was learned."""

    async def present(self) -> Present:
        """All members, at one position."""

    async def trim(self, keep: int) -> int:
        """Forget all but the last ``keep`` changes; returns how many were forgotten."""

    async def renew(self, member: Member, lease_s: float) -> FleetView:
        """Take or renew a lease; tells the feed when what others see of it has changed."""

    async def leave(self, name: str) -> FleetView:
        """Give a lease back."""

    async def retire(self, name: str) -> Member | None:
        """Ask a member to drain: its renewals say so from now on; None when it has no lease.

        This is for its present incarnation: when its process starts anew, it is not asked.
        """

    async def expire(self) -> FleetView:
        """Remove members whose lease has run out; tells the feed when there were any."""

    async def extend(self, lease_s: float) -> None:
        """Let every lease run this long from now: silence was ours, not the members'."""

    async def status(self) -> Status:
        """Schema version, counts, sizes."""

    async def streams(self) -> list[tuple[Specification, StoredState]]:
        """All learning states with their specifications."""

    async def snapshot(self, stream: str, version: int) -> StoredState | None:
        """The newest kept state of a stream that is not newer than ``version``."""

    async def events(self, stream: str, after: int, upto: int) -> list[Decision | Verdict]:
        """What a stream learned to come from version ``after`` to ``upto``, in order."""

    async def faults(self) -> list[str]:
        """Everything stored that contradicts a promise; empty when all is well."""


def alone(changes: Sequence[Change]) -> tuple[Change, ...]:
    """The changes with only the last Learned of each stream."""
    last = {c.stream: at for at, c in enumerate(changes) if isinstance(c, Learned)}
    return tuple(
        change
        for at, change in enumerate(changes)
        if not isinstance(change, Learned) or last[change.stream] == at
    )


def seen_by_others(member: Member) -> tuple[object, ...]:
    """The part of a lease whose change is told to everybody at once.

    Its position and its other evidence change all the time.
    """
    stage = member.evidence.get("stage", "")
    return member.incarnation, member.address, member.whole_for, stage


def fitting(runs: Sequence[Run], counts: Mapping[str, int], limit: int) -> list[Run]:
    """The first of these runs, as far as they exist and hold at most ``limit`` points in all."""
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
