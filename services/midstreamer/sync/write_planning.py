"""Plans what a batch of Writes adds to the store; pure functions.

There are three steps.  `asked` returns what to read first.  `needed` gets the lengths of the series
and returns what to read next.  `plan` returns what is new, repeated, refused and due.

Each part of a Write (`sync.write_parts`) is accepted whole or refused whole; a refused part does
not affect the other parts.  Every record is stored exactly once, because each has a natural key.
If the key is stored already, a record with the same content counts as a repeat; other content is
refused as a Conflict:

    record    key              content that must be the same
    tick      (series, time)   value
    decision  experience id    window
    verdict   experience id    (computed once, from the decision and one tick)

A new tick that is not later than the last tick of its series is refused as a StaleTick.

`sync.settling` computes verdicts and learns; `sync.commit` reads from the store.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput, Conflict, MidstreamerError, StaleTick
from midstreamer.domain.series import Column, Floats, Integers, check_columns, plain
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import frames
from midstreamer.protocol.frames import SeriesSummary, Write
from midstreamer.store.store_interface import Mark, Point, Run, Span, Ticks
from midstreamer.sync import quota, write_parts
from midstreamer.sync.decision_checks import check_decision
from midstreamer.sync.quota import Counted, Quotas
from midstreamer.sync.write_parts import Given

_BEGINNING = -(2**63)


@dataclass(frozen=True)
class Asked:
    """Names and keys in a batch of Writes. The stored records with these keys are read first."""

    series: tuple[str, ...]
    experience_ids: tuple[bytes, ...]
    writers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Needed:
    """What to read from the store after the first read, which returns the lengths of series."""

    ticks: Mapping[str, Integers]
    """For each series, the times of ticks in the batch that may be stored already."""
    spans: tuple[Span, ...]
    """For each series, the span from the first to the last time in `ticks`."""
    points: tuple[tuple[str, int], ...]
    """(series, position) of each new decision, and of the tick that will settle it."""
    windows: tuple[Run, ...]
    """Positions of the windows of new decisions."""
    runs: tuple[Run, ...]
    """For each series, the positions at which this batch may add ticks.  A stored decision that is
    due at one of them can be settled by the batch."""


@dataclass(frozen=True)
class Facts:
    """Everything that was read from the store to plan one batch."""

    summaries: Mapping[str, SeriesSummary] = field(default_factory=dict)
    decisions: Mapping[bytes, Decision] = field(default_factory=dict)
    marks: Mapping[tuple[str, str], Mark] = field(default_factory=dict)
    ticks: Mapping[str, Ticks] = field(default_factory=dict)
    points: Mapping[tuple[str, int], Point] = field(default_factory=dict)
    windows: Mapping[Run, Floats] = field(default_factory=dict)
    due: Sequence[Decision] = ()
    settled: Sequence[Verdict] = ()
    counted: Counted = field(default_factory=Counted)
    unreadable: Mapping[bytes, str] = field(default_factory=dict)
    """Ids of stored decisions that this version cannot decode, each with the reason."""


@dataclass(frozen=True)
class PartTaken:
    """An accepted part of a Write."""

    stored: int
    repeated: int
    column_repeats: tuple[int, ...]
    decisions: tuple[Decision, ...]
    """Decisions of this part that were stored before; this part sends them once more."""
    spans: tuple[Span, ...]
    """Times of this part's ticks. The answer to the Write holds the verdicts due at these times."""
    brought: frozenset[bytes]
    """Ids of this part's decisions. The answer to the Write holds the verdicts on them, too."""


@dataclass(frozen=True)
class BatchPlan:
    """What a batch adds to the store, except verdicts and learning states (`sync.settling`)."""

    outcomes: tuple[PartTaken | MidstreamerError, ...]
    """Result of each part of each Write, in order."""
    points: tuple[tuple[int, Column], ...]
    decisions: tuple[Decision, ...]
    due: tuple[tuple[Decision, Point], ...]
    """Decisions (stored or new) that are due, each with the point that settles it."""
    marks: tuple[Mark, ...]
    series_makers: Mapping[str, str]
    """For each new series, the identity whose quota it uses."""
    stream_makers: Mapping[str, str]
    """For each new stream, the identity whose quota it uses."""


def check_write(write: Write) -> Write:
    """Return the Write with negative zeros made positive; raise BadInput if it is not valid."""
    ticks, columns = sum(len(column) for column in write.columns), len(write.columns)
    decisions = len(write.decisions)
    most = frames.TICKS_MAX, frames.COLUMNS_MAX, frames.DECISIONS_MAX
    if any(count > limit for count, limit in zip((ticks, columns, decisions), most, strict=True)):
        raise BadInput(
            f"a Write of {ticks:,} ticks in {columns:,} columns and {decisions:,} decisions; at"
            f" most {most[0]:,}, {most[1]:,} and {most[2]:,} are allowed: split the Write"
        )
    write_parts.check_callers(write)
    return msgspec.structs.replace(
        write,
        columns=check_columns(write.columns),
        decisions=tuple(check_decision(decision) for decision in write.decisions),
    )


def asked(batch: Sequence[Given]) -> Asked:
    """Return the series, decisions and writers of a batch, which are read from the store first."""
    columns = {column.series for given in batch for column in given.write.columns}
    decided = {d.series for given in batch for d in given.write.decisions if d.settles}
    ids = {d.experience_id for given in batch for d in given.write.decisions}
    return Asked(
        tuple(sorted(columns | decided)),
        tuple(sorted(ids)),
        tuple(sorted({given.writer for given in batch})),
    )


def needed(
    batch: Sequence[Given],
    summaries: Mapping[str, SeriesSummary],
    stored: Container[bytes] = (),
) -> Needed:
    """Return what to read next; it may be more than `plan` will use.

    ``stored`` holds the ids of stored decisions, for which no further reads are needed.
    """
    ticks, spans, runs = {}, [], []
    for series, columns in _by_series(batch).items():
        known = summaries.get(series)
        if known is None:
            continue
        times = np.unique(np.concatenate([column.times_array() for column in columns]))
        old = times[times <= known.last_time]
        if len(old):
            ticks[series] = old
            spans.append(Span(series, int(old[0]), int(old[-1])))
        if len(old) < len(times):
            added = sum(len(column) for column in columns)
            runs.append(Run(series, known.count, known.count + added))
    new = [
        decision
        for given in batch
        for decision in given.write.decisions
        if decision.settles and decision.experience_id not in stored
    ]
    points = {(d.series, position) for d in new for position in (d.index, d.due_index)}
    windows = {_run_of(decision) for decision in new}
    return Needed(
        ticks, tuple(spans), tuple(sorted(points)), tuple(sorted(windows)), tuple(runs)
    )  # fmt: skip


def _run_of(decision: Decision) -> Run:
    """Return the positions of a decision's window in its series."""
    stop = decision.index + 1
    return Run(decision.series, stop - decision.specification.window, stop)


def _by_series(batch: Sequence[Given]) -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = {}
    for given in batch:
        for column in given.write.columns:
            if len(column):
                found.setdefault(column.series, []).append(column)
    return found


def plan(batch: Sequence[Given], facts: Facts, quotas: Quotas = quota.DEFAULT) -> BatchPlan:
    """Accept or refuse the parts one by one; accepted parts count as stored for the later parts."""
    view = _View(facts)
    ledger = quota.Ledger(quotas, facts.counted, facts.summaries, facts.decisions)
    outcomes: list[PartTaken | MidstreamerError] = []
    for part in write_parts.parts_of(batch):
        before = view.mark()
        try:
            taken = view.take(part.write)
            ledger.take(part)
            outcomes.append(taken)
        except MidstreamerError as error:
            view.undo(before)
            outcomes.append(error)
    return BatchPlan(
        tuple(outcomes),
        tuple(view.added),
        tuple(view.decided),
        tuple(view.due()),
        advanced(batch, facts.marks),
        ledger.series,
        ledger.streams,
    )


def advanced(batch: Sequence[Given], marks: Mapping[tuple[str, str], Mark]) -> tuple[Mark, ...]:
    """Return each writer's new mark: highest number, and counts of repeated and missing numbers."""
    present: dict[tuple[str, str], Mark] = {}
    for writer, write in batch:
        old = present.get(writer) or marks.get(writer)
        if old is None:
            present[writer] = Mark(*writer, write.sequence, 0, 0)
        elif write.sequence <= old.sequence:
            present[writer] = old._replace(repeats=old.repeats + 1)
        else:
            gaps = old.gaps + write.sequence - old.sequence - 1
            present[writer] = old._replace(sequence=write.sequence, gaps=gaps)
    return tuple(present[writer] for writer in sorted(present))


class _Grown:
    """One series: its stored points as far as they were read, and the points the batch adds."""

    def __init__(self, name: str, summary: SeriesSummary | None, stored: Ticks | None) -> None:
        self.name = name
        self._count = summary.count if summary else 0
        self._last = summary.last_time if summary else _BEGINNING
        nothing: Integers = np.empty(0, "<i8")
        self._times: list[Integers] = [stored.times if stored else nothing]
        self._values: list[Floats] = [stored.values if stored else nothing.astype("<f8")]

    @property
    def count(self) -> int:
        """Number of points, including those that the batch adds."""
        return self._count + sum(len(part) for part in self._times[1:])

    @property
    def last(self) -> int:
        """Time of the last point, including those that the batch adds."""
        return int(self._times[-1][-1]) if len(self._times) > 1 else self._last

    def forget(self) -> None:
        """Remove the ticks that the last `take` added."""
        del self._times[-1], self._values[-1]

    def take(self, column: Column) -> tuple[int, tuple[int, Column] | None]:
        """Add a column. Return (number of repeats, (position of the first new tick, new ticks))."""
        times, values = column.times_array(), column.values_array()
        old = int(np.searchsorted(times, self.last, side="right"))
        if old:
            self._check_repeats(times[:old], values[:old])
        if old == len(times):
            return old, None
        start = self.count
        self._times.append(times[old:])
        self._values.append(values[old:])
        if not old:
            return 0, (start, column)
        return old, (start, Column(self.name, times[old:].tobytes(), values[old:].tobytes()))

    def _check_repeats(self, times: Integers, values: Floats) -> None:
        known, stored = np.concatenate(self._times), np.concatenate(self._values)
        place = np.searchsorted(known, times)
        found = place < len(known)
        found[found] = known[place[found]] == times[found]
        if not found.all():
            time = int(times[np.argmin(found)])
            raise StaleTick(
                f"{self.name} at {time}: no tick is stored at this time, and the last tick is at"
                f" {self.last}; send each series in time order"
            )
        other = np.flatnonzero(stored[place] != values)
        if other.size:
            at = int(other[0])
            sent, kept = float(values[at]), float(stored[place[at]])
            raise Conflict(
                f"{self.name} at {int(times[at])}: {sent!r} was sent and {kept!r} is stored;"
                " a stored tick never changes"
            )

    def point(self, index: int) -> Point | None:
        """Return the point at position ``index`` if the batch adds it, else None."""
        at = index - self._count
        for times, values in zip(self._times[1:], self._values[1:], strict=True):
            if 0 <= at < len(times):
                return Point(int(times[at]), float(values[at]))
            at -= len(times)
        return None

    def values(self, start: int, stop: int) -> Floats:
        """Return the values that the batch adds at positions from ``start`` to ``stop`` - 1."""
        at = slice(max(start - self._count, 0), max(stop - self._count, 0))
        return np.concatenate([self._values[0][:0], *self._values[1:]])[at]


class _View:
    """The stored facts plus everything that the parts accepted so far add."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._series: dict[str, _Grown] = {}
        self.added: list[tuple[int, Column]] = []
        self.decided: list[Decision] = []

    def mark(self) -> tuple[int, int]:
        """Return a mark of what this view contains now, to be passed to `undo`."""
        return len(self.added), len(self.decided)

    def undo(self, mark: tuple[int, int]) -> None:
        """Remove everything that was added since ``mark``."""
        added, decided = mark
        for _, column in self.added[added:]:
            self._series[column.series].forget()
        del self.added[added:], self.decided[decided:]

    def take(self, write: Write) -> PartTaken:
        """Add a part of a Write; raise BadInput, Conflict or StaleTick if it is refused."""
        repeats = [self._take_column(column) for column in write.columns]
        stored = [self._take_decision(decision) for decision in write.decisions]
        before = tuple(decision for decision in stored if decision is not None)
        repeated = sum(repeats) + len(before)
        rows = sum(len(column) for column in write.columns) + len(write.decisions)
        return PartTaken(
            rows - repeated,
            repeated,
            tuple(repeats) if any(repeats) else (),
            before,
            tuple(_span(column) for column in write.columns if len(column)),
            frozenset(decision.experience_id for decision in write.decisions),
        )

    def _take_column(self, column: Column) -> int:
        if not len(column):
            return 0
        repeated, new = self._grown(column.series).take(column)
        if new is not None:
            self.added.append(new)
        return repeated

    def _take_decision(self, decision: Decision) -> Decision | None:
        """Return the stored decision with the same id; if none, add this one and return None."""
        if detail := self._facts.unreadable.get(decision.experience_id):
            raise BadInput(
                f"decision {decision.experience_id.hex()} of {decision.series} at {decision.time}"
                f" is stored, and this version cannot decode it ({detail}): upgrade sync"
            )
        stored = self._facts.decisions.get(decision.experience_id) or next(
            (new for new in self.decided if new.experience_id == decision.experience_id), None
        )
        if stored is not None:
            _check_same(decision, stored)
            return stored
        if decision.settles:
            self._check_place(decision)
        self.decided.append(decision)
        return None

    def _check_place(self, decision: Decision) -> None:
        point = self.point(decision.series, decision.index)
        if point is None or point.time != decision.time:
            found = "nothing" if point is None else f"the tick of {point.time}"
            raise BadInput(
                f"decision {decision.experience_id.hex()} of {decision.series} at"
                f" {decision.time}: position {decision.index} of the series holds {found}; append"
                " the ticks of a window before the window is decided"
            )
        self._check_window(decision)

    def _check_window(self, decision: Decision) -> None:
        """Raise BadInput unless the decision's window equals the stored values bit for bit."""
        run, m = _run_of(decision), decision.specification.window
        stored = self._facts.windows.get(run, np.empty(0))
        # The window begins with stored values; this batch may add the rest.
        added = self._grown(decision.series).values(run.start + len(stored), run.stop)
        known = plain(np.concatenate([stored, added]))
        given = plain(np.frombuffer(decision.window, "<f8"))
        if known.tobytes() == given.tobytes():
            return
        name = f"decision {decision.experience_id.hex()} of {decision.series} at {decision.time}"
        if run.start < 0 or len(known) != m:
            raise BadInput(
                f"{name}: a window of {m} values cannot end at position {decision.index}"
            )
        at = int(np.flatnonzero(known != given)[0])
        raise BadInput(
            f"{name}: value {at} of its window is {float(given[at])!r}, but {float(known[at])!r} is"
            f" stored at position {run.start + at}: send a window that has the stored values"
        )

    def _grown(self, series: str) -> _Grown:
        if series not in self._series:
            facts = self._facts
            self._series[series] = _Grown(
                series, facts.summaries.get(series), facts.ticks.get(series)
            )
        return self._series[series]

    def point(self, series: str, index: int) -> Point | None:
        """Return the point at a position, stored or added by the batch; None if there is none."""
        return self._facts.points.get((series, index)) or self._grown(series).point(index)

    def due(self) -> Iterable[tuple[Decision, Point]]:
        """Yield each decision that can be settled now, with the point that settles it."""
        for decision in (*self._facts.due, *self.decided):
            if decision.settles:
                point = self.point(decision.series, decision.due_index)
                if point is not None:
                    yield decision, point


def _span(column: Column) -> Span:
    times = column.times_array()
    return Span(column.series, int(times[0]), int(times[-1]))


def _check_same(given: Decision, stored: Decision) -> None:
    if given.window == stored.window:
        return
    ours, theirs = np.frombuffer(stored.window, "<f8"), np.frombuffer(given.window, "<f8")
    # Compare bits, because 0.0 == -0.0 as numbers.
    differ = ours.view("<i8") != theirs.view("<i8") if len(ours) == len(theirs) else np.empty(0)
    at = int(np.flatnonzero(differ)[0]) if len(differ) else -1
    values = (
        f"value {at}: {float(theirs[at])!r} was sent and {float(ours[at])!r} is stored"
        if at >= 0
        else f"{len(theirs)} values were sent and {len(ours)} are stored"
    )
    raise Conflict(
        f"decision {stored.experience_id.hex()} of {stored.series} at {stored.time}: the window"
        f" differs, {values}; a stored experience never changes"
    )
