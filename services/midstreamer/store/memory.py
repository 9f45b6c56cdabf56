"""A store that keeps everything in dicts, for tests, simulations and experiments.

It passes the same conformance suite as `store.postgres`.  A transaction reads the live tables and
changes nothing before `apply`, which is a single step without an await.  So a transaction that
fails before `apply` leaves no trace; it may call `apply` at most once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import Behind, StoreError, UnknownSeries, shortened
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Change, Joined, Learned, Member, SeriesSummary
from midstreamer.store.memory_leases import Leases
from midstreamer.store.store_interface import (
    NOTHING,
    CataloguePage,
    Effects,
    Event,
    FeedPage,
    FleetView,
    Heard,
    Kind,
    LoadedRun,
    Mark,
    Point,
    Present,
    Run,
    Span,
    Status,
    StoredState,
    Ticks,
    Totals,
    Transaction,
    Unreadable,
    Usage,
    alone,
    fitting,
)


@dataclass
class _Series:
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


class MemoryStore:
    """A store in the memory of this process; its content is lost when the process ends."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        """``now_s`` is the clock, in seconds, by which leases expire."""
        self._lock = asyncio.Lock()
        self.away = ""
        """If set, every operation raises StoreError with this text, as if PostgreSQL were away."""
        self.head = 0
        self.series: dict[str, _Series] = {}
        self.decisions: dict[bytes, Decision] = {}
        self.verdicts: dict[bytes, Verdict] = {}
        self.state_of: dict[str, tuple[Specification, StoredState]] = {}
        self.snapshots: list[StoredState] = []
        self.event_log: list[Event] = []
        self.usage_of: dict[str, Usage] = {}
        self.mark_of: dict[tuple[str, str], Mark] = {}
        self.leases = Leases(now_s)
        self.feed_rows: dict[int, Change] = {}
        self.notifies = True
        """If False, a commit notifies nobody and is found by polling, like a commit of an older
        version.
        """
        self._hearing: list[Heard] = []

    def check(self) -> None:
        """Raise StoreError if `away` is set."""
        if self.away:
            raise StoreError(self.away, retry_after_s=0.1)

    async def open(self) -> None:
        """Do nothing, except to raise StoreError if `away` is set."""
        self.check()

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a write transaction, after the one before it has ended."""
        async with self._lock:
            self.check()
            yield _Transaction(self)
            self.check()

    async def position(self) -> int:
        """Return the last position of the feed."""
        self.check()
        return self.head

    async def totals(self) -> Totals:
        """Return how many ticks, decisions and verdicts are stored."""
        self.check()
        ticks = sum(len(kept.times) for kept in self.series.values())
        return Totals(self.head, ticks, len(self.decisions), len(self.verdicts))

    async def catalogue(self, after: str, limit: int) -> CataloguePage:
        """Return a page of series, sorted by name."""
        self.check()
        names = sorted(name for name in self.series if name > after)
        page = tuple(self.summary(name) for name in names[:limit])
        return CataloguePage(self.head, page, len(names) > limit)

    def summary(self, name: str) -> SeriesSummary:
        """Return the summary of one series."""
        kept = self.series[name]
        return SeriesSummary(
            name, len(kept.times), kept.times[0], kept.times[-1], kept.values[-1]
        )  # fmt: skip

    async def load(self, runs: Sequence[Run], limit: int) -> list[LoadedRun]:
        """Return the points of these runs, in order, until ``limit`` points in all are returned."""
        self.check()
        for run in runs:
            if run.series not in self.series:
                raise UnknownSeries(f"series {shortened(run.series)}: no point of it is stored")
        counts = {run.series: len(self.series[run.series].times) for run in runs}
        return [self._loaded(run) for run in fitting(runs, counts, limit)]

    def _loaded(self, run: Run) -> LoadedRun:
        kept = self.series[run.series]
        part = slice(run.start, run.stop)
        return LoadedRun(
            self.head,
            run.start,
            np.array(kept.times[part], "<i8"),
            np.array(kept.values[part], "<f8"),
            len(kept.times),
        )

    async def experiences(
        self, experience_ids: Sequence[bytes]
    ) -> tuple[list[Decision], list[Verdict]]:
        """Return the stored decisions and verdicts with these ids."""
        self.check()
        return (
            [self.decisions[key] for key in experience_ids if key in self.decisions],
            [self.verdicts[key] for key in experience_ids if key in self.verdicts],
        )

    async def feed(self, after: int, limit: int, *, states: bool = True) -> FeedPage:
        """Return the next page of the feed after a position."""
        self.check()
        wanted = self._kept(after, limit)
        found = alone([self.feed_rows[position] for position in wanted])
        changes = (self._whole(change) if states else change for change in found)
        return FeedPage(tuple(changes), after + len(wanted))

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        """Return at most ``limit`` changes after a position, one for each position."""
        self.check()
        return tuple(self._whole(self.feed_rows[at]) for at in self._kept(after, limit))

    async def watch(self, heard: Heard, *, period_s: float) -> None:
        """Call ``heard`` with the position after each commit and every ``period_s`` seconds."""
        self._hearing.append(heard)
        try:
            while True:
                self.check()
                heard(self.head)
                await asyncio.sleep(period_s)
        finally:
            self._hearing.remove(heard)

    def _kept(self, after: int, limit: int) -> range:
        """Return the positions of the changes after position ``after``, at most ``limit``.

        Raise Behind if the first of these changes was trimmed, or if ``after`` is past the end.
        """
        wanted = range(after + 1, min(self.head, after + limit) + 1)
        if after > self.head or (wanted and wanted[0] not in self.feed_rows):
            raise Behind(
                f"feed position {after} is not among the {len(self.feed_rows)} changes kept up to"
                f" {self.head}: load again and follow from the present position"
            )
        return wanted

    def _whole(self, change: Change) -> Change:
        if not isinstance(change, Learned):
            return change
        newest = self.state_of[change.stream][1]
        return Learned(*newest)

    async def present(self) -> Present:
        """Return all members, at the present position of the feed."""
        self.check()
        return Present(self.head, self.leases.members())

    async def state(self, stream: str) -> tuple[int, StoredState | None]:
        """Return the position of the feed and the newest state of a stream."""
        self.check()
        return self.head, self.state_of[stream][1] if stream in self.state_of else None

    async def trim(self, keep: int) -> int:
        """Delete all but the last ``keep`` changes of the feed; return how many were deleted."""
        self.check()
        old = [position for position in self.feed_rows if position <= self.head - keep]
        for position in old:
            del self.feed_rows[position]
        return len(old)

    # --- leases -----------------------------------------------------------------------------------

    async def renew(self, member: Member, lease_s: float) -> FleetView:
        """Take or renew a lease; publish the members if a field of `seen_by_others` has changed."""
        self.check()
        view = self._told(self.leases.renew(member, lease_s))
        return dataclasses.replace(view, drain=self.leases.asked(member))

    async def retire(self, name: str) -> Member | None:
        """Mark a member to be drained, and return it; None if the member has no lease."""
        self.check()
        return self.leases.retire(name)

    async def leave(self, name: str) -> FleetView:
        """Delete the lease of a member; if there was one, publish the remaining members."""
        self.check()
        return self._told(self.leases.leave(name))

    async def expire(self) -> FleetView:
        """Remove members whose lease has expired.

        If any member was removed, publish the remaining members.
        """
        self.check()
        return self._told(self.leases.expire())

    async def extend(self, lease_s: float) -> None:
        """Let every lease last at least ``lease_s`` seconds from now."""
        self.check()
        self.leases.extend(lease_s)

    def _told(self, changed: bool) -> FleetView:
        members = self.leases.members()
        if changed:
            self.publish([Joined(members)])
        return FleetView(self.head, members, changed)

    def publish(self, changes: Sequence[Change]) -> None:
        """Add changes to the feed, without the states that they hold, and notify watchers."""
        for change in changes:
            self.head += 1
            light = isinstance(change, Learned)
            self.feed_rows[self.head] = (
                msgspec.structs.replace(change, state=b"") if light else change
            )
        if self.notifies:
            for heard in self._hearing:
                heard(self.head)

    # --- administration ---------------------------------------------------------------------------

    async def status(self) -> Status:
        """Return the number of rows of each table."""
        self.check()
        rows = {
            "series": len(self.series),
            "points": sum(len(kept.times) for kept in self.series.values()),
            "decisions": len(self.decisions),
            "verdicts": len(self.verdicts),
            "events": len(self.event_log),
        }
        return Status("memory", 0, self.head, rows)

    async def streams(self) -> list[tuple[Specification, StoredState]]:
        """Return all learning states with their specifications."""
        self.check()
        return [self.state_of[stream] for stream in sorted(self.state_of)]

    async def snapshot(self, stream: str, version: int) -> StoredState | None:
        """Return a stream's newest snapshot that is not newer than ``version``."""
        fitting = [s for s in self.snapshots if s.stream == stream and s.version <= version]
        return max(fitting, key=lambda state: state.version, default=None)

    async def events(self, stream: str, after: int, upto: int) -> list[Decision | Verdict]:
        """Return the events that led a stream from version ``after`` to ``upto``, in order."""
        chosen = sorted(
            e for e in self.event_log if e.stream == stream and after < e.version <= upto
        )
        return [
            self.decisions[e.experience_id]
            if e.kind is Kind.DECISION
            else self.verdicts[e.experience_id]
            for e in chosen
        ]

    async def faults(self) -> list[str]:
        """Return a sentence for each stream whose state and events do not match."""
        return [
            f"stream {stream}: state has version {state.version}, and"
            f" {sum(event.stream == stream for event in self.event_log)} events were learned"
            for stream, (_, state) in self.state_of.items()
            if state.version != sum(event.stream == stream for event in self.event_log)
        ]


class _Transaction:
    """A write transaction that reads the live tables and changes them in one step."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    @property
    def position(self) -> int:
        return self._store.head

    async def summaries(self, names: Sequence[str]) -> dict[str, SeriesSummary]:
        known = self._store.series
        return {name: self._store.summary(name) for name in names if name in known}

    async def ticks(self, times: Mapping[str, Integers]) -> dict[str, Ticks]:
        found = {}
        for name, wanted in times.items():
            kept = self._store.series.get(name, _Series())
            known, values = np.array(kept.times, "<i8"), np.array(kept.values, "<f8")
            here = np.isin(known, wanted)
            if here.any():
                found[name] = Ticks(known[here], values[here])
        return found

    async def points_at(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Point]:
        found = {}
        for name, index in keys:
            kept = self._store.series.get(name)
            if kept is not None and 0 <= index < len(kept.times):
                found[name, index] = Point(kept.times[index], kept.values[index])
        return found

    async def windows(self, runs: Sequence[Run]) -> dict[Run, Floats]:
        found = {}
        for run in runs:
            kept = self._store.series.get(run.series, _Series())
            values = kept.values[max(run.start, 0) : max(run.stop, 0)]
            if values:
                found[run] = np.array(values, "<f8")
        return found

    async def decisions(
        self, experience_ids: Sequence[bytes]
    ) -> dict[bytes, Decision | Unreadable]:
        stored = self._store.decisions
        return {key: stored[key] for key in experience_ids if key in stored}

    async def due(self, runs: Sequence[Run]) -> list[Decision | Unreadable]:
        wanted = {run.series: range(run.start, run.stop) for run in runs}
        return [
            decision
            for decision in self._store.decisions.values()
            if decision.settles
            and decision.experience_id not in self._store.verdicts
            and decision.due_index in wanted.get(decision.series, ())
        ]

    async def settled(self, spans: Sequence[Span], limit: int) -> list[Verdict]:
        found = [
            verdict
            for verdict in self._store.verdicts.values()
            for span in spans
            if span.series == verdict.series and span.first <= verdict.due_time <= span.last
        ]
        return sorted(found, key=lambda v: (-v.due_time, v.series, v.experience_id))[:limit]

    async def states(self, known: Mapping[str, int]) -> dict[str, StoredState]:
        stored = {stream: self._store.state_of[stream][1] for stream in known
                  if stream in self._store.state_of}  # fmt: skip
        return {s: state for s, state in stored.items() if state.version != known[s]}

    async def known_streams(self, streams: Sequence[str]) -> set[str]:
        return {stream for stream in streams if stream in self._store.state_of}

    async def usage(self, identities: Sequence[str]) -> tuple[Usage, dict[str, Usage]]:
        known = self._store.usage_of
        total = Usage(len(self._store.series), len(self._store.state_of))
        return total, {identity: known[identity] for identity in identities if identity in known}

    async def marks(self, writers: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Mark]:
        known = self._store.mark_of
        return {writer: known[writer] for writer in writers if writer in known}

    async def apply(self, effects: Effects) -> int:
        store = self._store
        store.check()
        self._check_new(effects)
        for _, column in effects.points:
            kept = store.series.setdefault(column.series, _Series())
            kept.times += column.times_array().tolist()
            kept.values += column.values_array().tolist()
        for decision in effects.decisions:
            store.decisions[decision.experience_id] = decision
        for verdict in effects.verdicts:
            store.verdicts[verdict.experience_id] = verdict
        store.event_log += effects.events
        store.snapshots += effects.snapshots
        store.state_of.update({state.stream: (s, state) for s, state in effects.states})
        for who, (series, streams) in effects.brought.items():
            before = store.usage_of.get(who, NOTHING)
            store.usage_of[who] = Usage(before.series + series, before.streams + streams)
        store.mark_of.update({(mark.identity, mark.incarnation): mark for mark in effects.marks})
        store.publish(effects.changes)
        return store.head

    def _check_new(self, effects: Effects) -> None:
        """Raise StoreError if a record would be stored twice, or a position or version skipped.

        With PostgreSQL, unique keys refuse a record that is stored already, and the query
        ``put_states`` refuses a wrong version.  Only this method refuses a skipped position.
        """
        ends = {name: len(kept.times) for name, kept in self._store.series.items()}
        for start, column in effects.points:
            if ends.get(column.series, 0) != start:
                raise StoreError(f"{column.series}: positions would not be contiguous")
            ends[column.series] = start + len(column)
        twice = [d for d in effects.decisions if d.experience_id in self._store.decisions]
        if twice or any(v.experience_id in self._store.verdicts for v in effects.verdicts):
            raise StoreError("an experience would be stored twice")
        for _, state in effects.states:
            learned = sum(event.stream == state.stream for event in effects.events)
            stored = self._store.state_of.get(state.stream)
            if (stored[1].version if stored else 0) != state.version - learned:
                raise StoreError(
                    f"stream {state.stream}: another sync has stored a newer state; retry",
                    retry_after_s=0.05,
                )
