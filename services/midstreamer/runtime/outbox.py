"""The outbox: what waits to be written to sync, packed, sent, sent again, and settled once.

Items wait in order.  Whenever no Write is under way, everything waiting is packed into one, up
to a size: the slower the store, the larger the batch.  A Write is one transaction, all or
nothing.  When sync is away the same Write is sent again, with the same sequence, until it is
answered; natural keys make that safe.  When a Write is refused for what is in it, it is halved
until the item to blame stands alone, so nobody fails for a neighbour.

An item with a deadline is given up when that passes; it may have been stored all the same, and
says so.  An item without one stays until it is stored or refused for what is in it; an error that
nobody foresaw says nothing of the item, and is one more reason to send it again.

Events and ``now_s`` in, effects out; `runtime.writer` carries them out.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from midstreamer.domain import errors
from midstreamer.domain.decision import Decision
from midstreamer.domain.series import NAME_CHARACTERS_MAX, Column
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import frames

PASSING = (errors.Unavailable, errors.DeadlineExceeded)
"""Errors that say nothing of what was in a Write."""
FINAL = (errors.BadInput, errors.LocalProtocolError)
"""Errors that an item brings about however often it is sent: what is in it, or that it is too
large for any frame."""

MATCH_BYTES = 34
"""Of one analog in a decision: which, start, time, distance, outcome."""
NAME_BYTES = NAME_CHARACTERS_MAX + 3
"""Of the name of a series, at most; each analog of a decision may be of another series."""
DECISION_BYTES = 768
"""Of all else in a decision beside its window and analogs, at most."""


# --- what goes in and comes out -----------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """What one caller wants stored: all of it or nothing."""

    columns: tuple[Column, ...] = ()
    decisions: tuple[Decision, ...] = ()
    deadline_s: float | None = None
    """When its caller stops waiting; None: it must be stored."""

    @property
    def ticks(self) -> int:
        """How many ticks."""
        return sum(len(column) for column in self.columns)

    @property
    def size(self) -> int:
        """Bytes on the wire, roughly."""
        columns = sum(256 + len(c.times) + len(c.values) for c in self.columns)
        return columns + sum(map(_size_of, self.decisions))


@dataclass(frozen=True)
class Receipt:
    """What became of an item."""

    position: int
    stored: int = 0
    repeated: int = 0
    decisions: tuple[Decision, ...] = ()
    """The item's, in its order; the stored one where it had been stored before."""
    verdicts: tuple[Verdict, ...] = ()
    """Those that its ticks brought."""


@dataclass(frozen=True)
class Offered:
    """An item to be stored; ``key`` is the caller's name for it."""

    key: int
    item: Item


@dataclass(frozen=True)
class Answered:
    """Sync committed the Write with this sequence."""

    sequence: int
    written: frames.Written


@dataclass(frozen=True)
class Failed:
    """The Write with this sequence brought an error."""

    sequence: int
    error: errors.MidstreamerError


@dataclass(frozen=True)
class Tick:
    """Time passed."""


Event = Offered | Answered | Failed | Tick


@dataclass(frozen=True)
class Post:
    """Send this Write."""

    write: frames.Write


@dataclass(frozen=True)
class Settle:
    """An item is committed."""

    key: int
    receipt: Receipt


@dataclass(frozen=True)
class Reject:
    """An item is given up."""

    key: int
    error: errors.MidstreamerError


Effect = Post | Settle | Reject


@dataclass(frozen=True)
class Limits:
    """Bounds of an outbox."""

    items_max: int = 4096
    """Items waiting; one more is refused with `Overloaded`."""
    bytes_max: int = 64 * 1024 * 1024
    """Bytes waiting, likewise."""
    batch_bytes_max: int = frames.FRAME_BYTES_MAX // 2
    """Payload of one Write; a larger single item goes alone."""
    backoff_first_s: float = 0.05
    backoff_most_s: float = 1.0


# --- the core -----------------------------------------------------------------------------------


@dataclass
class _Batch:
    keys: list[int]
    write: frames.Write
    attempts: int = 0
    again_s: float | None = None
    """When to send it again; None while its answer is awaited."""
    trouble: errors.MidstreamerError | None = None
    """Why it has to be sent again."""


@dataclass
class Outbox:
    """The items of one writer, (certified identity, incarnation)."""

    limits: Limits = field(default_factory=Limits)
    _items: dict[int, Item] = field(default_factory=dict)
    _waiting: deque[int] = field(default_factory=deque)
    _suspects: deque[list[int]] = field(default_factory=deque)
    """Parts of a refused Write, each to be sent by itself before anything else."""
    _batch: _Batch | None = None
    _bytes: int = 0
    _sequences: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def depth(self) -> int:
        """Items not settled."""
        return len(self._items)

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Take one event in; say what is to be done."""
        match event:
            case Offered(key, item):
                return self._offer(key, item) or self._next(now_s)
            case Answered(sequence, written):
                return self._answer(sequence, written) + self._next(now_s)
            case Failed(sequence, error):
                return self._fail(sequence, error, now_s) + self._next(now_s)
            case Tick():
                return self._expire(now_s) + self._next(now_s)

    def next_wakeup_s(self) -> float | None:
        """When `Tick` is due next."""
        busy = self._busy()
        times = [
            item.deadline_s
            for key, item in self._items.items()
            if item.deadline_s is not None and key not in busy
        ]
        if self._batch and self._batch.again_s is not None:
            times.append(self._batch.again_s)
        return min(times, default=None)

    def _offer(self, key: int, item: Item) -> list[Effect]:
        full = len(self._items) >= self.limits.items_max
        if full or (self._items and self._bytes + item.size > self.limits.bytes_max):
            error = errors.Overloaded(
                f"{len(self._items)} writes of {self._bytes:,} B wait for sync, the most allowed:"
                " send slower, or find out why sync is slow",
                retry_after_s=self.limits.backoff_first_s,
            )
            return [Reject(key, error)]
        self._items[key] = item
        self._bytes += item.size
        self._waiting.append(key)
        return []

    # --- packing ---

    def _next(self, now_s: float) -> list[Effect]:
        if self._batch is not None:
            batch = self._batch
            if batch.again_s is None or now_s < batch.again_s:
                return []
            batch.again_s = None
            return [Post(batch.write)]
        keys = self._suspects.popleft() if self._suspects else self._pack()
        if not keys:
            return []
        self._batch = _Batch(keys, self._write(keys))
        return [Post(self._batch.write)]

    def _pack(self) -> list[int]:
        keys: list[int] = []
        room = _Room(self.limits.batch_bytes_max)
        while self._waiting and room.take(self._items[self._waiting[0]]):
            keys.append(self._waiting.popleft())
        return keys

    def _write(self, keys: Iterable[int]) -> frames.Write:
        items = [self._items[key] for key in keys]
        return frames.Write(
            sequence=next(self._sequences),
            columns=tuple(column for item in items for column in item.columns),
            decisions=tuple(decision for item in items for decision in item.decisions),
        )

    # --- answers ---

    def _answer(self, sequence: int, written: frames.Written) -> list[Effect]:
        batch = self._current(sequence)
        if batch is None:
            return []
        self._batch = None
        items = [self._forget(key) for key in batch.keys]
        receipts = receipts_of(items, written)
        return [Settle(key, receipt) for key, receipt in zip(batch.keys, receipts, strict=True)]

    def _fail(self, sequence: int, error: errors.MidstreamerError, now_s: float) -> list[Effect]:
        batch = self._current(sequence)
        if batch is None:
            return []
        if isinstance(error, PASSING):
            return self._again(batch, error, now_s)
        if len(batch.keys) > 1:
            self._batch = None
            half = len(batch.keys) // 2
            self._suspects.extendleft([batch.keys[half:], batch.keys[:half]])
            return []
        (key,) = batch.keys
        if self._items[key].deadline_s is None and not isinstance(error, FINAL):
            return self._again(batch, error, now_s)
        self._batch = None
        self._forget(key)
        return [Reject(key, error)]

    def _again(self, batch: _Batch, error: errors.MidstreamerError, now_s: float) -> list[Effect]:
        wait_s = self.limits.backoff_first_s * 2.0 ** min(batch.attempts, 16)
        wait_s = max(error.retry_after_s, wait_s)
        batch.attempts, batch.trouble = batch.attempts + 1, error
        batch.again_s = now_s + min(self.limits.backoff_most_s, wait_s)
        return self._expire(now_s)

    def _current(self, sequence: int) -> _Batch | None:
        batch = self._batch
        return batch if batch is not None and batch.write.sequence == sequence else None

    def _forget(self, key: int) -> Item:
        item = self._items.pop(key)
        self._bytes -= item.size
        return item

    def _busy(self) -> set[int]:
        """What a Write under way may yet commit."""
        return set(self._batch.keys) if self._batch and self._batch.again_s is None else set()

    def _expire(self, now_s: float) -> list[Effect]:
        """Give up whatever is too late, except what a Write under way may yet commit."""
        busy = self._busy()
        late = [
            key
            for key, item in self._items.items()
            if item.deadline_s is not None and item.deadline_s <= now_s and key not in busy
        ]
        if not late:
            return []
        gone = set(late)
        self._waiting = deque(key for key in self._waiting if key not in gone)
        left = ([key for key in keys if key not in gone] for keys in self._suspects)
        self._suspects = deque(keys for keys in left if keys)
        trouble = self._batch.trouble if self._batch else None
        if self._batch and not gone.isdisjoint(self._batch.keys):
            self._thin(self._batch, gone)
        return [Reject(key, _too_late(self._forget(key), trouble)) for key in late]

    def _thin(self, batch: _Batch, gone: set[int]) -> None:
        """Another content is another Write: a sequence never names two."""
        keys = [key for key in batch.keys if key not in gone]
        self._batch = replace(batch, keys=keys, write=self._write(keys)) if keys else None


def _too_late(item: Item, trouble: errors.MidstreamerError | None) -> errors.MidstreamerError:
    told = f"; the last trouble was error[{trouble.code}]: {trouble.message}" if trouble else ""
    return errors.DeadlineExceeded(
        f"{item.ticks} ticks and {len(item.decisions)} decisions were not answered as durable"
        f" in time; they may be stored all the same, and sending them again is safe{told}"
    )


class _Room:
    """What still fits into a Write. The first item always does."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes = bytes_max
        self._ticks = frames.TICKS_MAX
        self._decisions = frames.DECISIONS_MAX
        self._ids: set[bytes] = set()
        self._empty = True

    def take(self, item: Item) -> bool:
        """Whether the item fits beside those taken; it is then taken too."""
        self._bytes -= item.size
        self._ticks -= item.ticks
        self._decisions -= len(item.decisions)
        fits = min(self._bytes, self._ticks, self._decisions) >= 0 and not self._clashes(item)
        if not (fits or self._empty):
            return False
        self._empty = False
        self._ids.update(decision.experience_id for decision in item.decisions)
        return True

    def _clashes(self, item: Item) -> bool:
        """Whether it repeats a decision: the answer could not tell whose was stored first."""
        return any(decision.experience_id in self._ids for decision in item.decisions)


def receipts_of(items: list[Item], written: frames.Written) -> list[Receipt]:
    """One Receipt for each item of a Write, in its order."""
    before = {decision.experience_id: decision for decision in written.decisions}
    repeats = iter(_column_repeats(items, written))
    receipts = []
    for item in items:
        decisions = tuple(before.get(d.experience_id, d) for d in item.decisions)
        known = sum(decision.experience_id in before for decision in item.decisions)
        repeated = known + sum(next(repeats) for _ in item.columns)
        receipts.append(
            Receipt(
                written.position,
                item.ticks + len(item.decisions) - repeated,
                repeated,
                decisions,
                _verdicts_of(item, written.verdicts),
            )
        )
    return receipts


def _column_repeats(items: list[Item], written: frames.Written) -> list[int]:
    """How many ticks of each column had been stored before."""
    columns = [column for item in items for column in item.columns]
    if len(written.column_repeats) == len(columns):
        return list(written.column_repeats)
    left = written.repeated - len(written.decisions)
    shares = []
    for column in columns:
        shares.append(min(left, len(column)))
        left -= shares[-1]
    return shares


def _verdicts_of(item: Item, verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    if not verdicts or not item.columns:
        return ()
    spans = {
        column.series: (int(column.times_array()[0]), int(column.times_array()[-1]))
        for column in item.columns
        if len(column)
    }
    return tuple(
        verdict
        for verdict in verdicts
        if verdict.series in spans
        and spans[verdict.series][0] <= verdict.due_time <= spans[verdict.series][1]
    )


def _size_of(decision: Decision) -> int:
    matches = decision.matches
    names = sum(NAME_BYTES - NAME_CHARACTERS_MAX + len(name) for name in matches.series)
    return DECISION_BYTES + len(decision.window) + MATCH_BYTES * len(matches) + names
