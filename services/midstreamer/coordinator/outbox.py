"""The outbox: pack waiting items into Writes, send these to sync, and retry until answered.

When no Write is under way, the waiting items are packed into the next one, up to a size limit.  So
batches become larger when the store is slower.  `runtime.fair_queue` chooses the next identity:
the one with the fewest bytes sent so far.  Items of one identity keep their order, and so do the
ticks of one series.  One identity may hold at most half of the items and half of the bytes.

A Write is one transaction.  While sync is unreachable, the same Write is retried with the same
sequence until sync answers; natural keys make retries safe.  Sync accepts or refuses each item
separately, so a bad item does not fail the other items of its Write.  If PostgreSQL refuses a
whole Write nevertheless, the items of that Write become *suspects*.  The next Write then has at
most half as many of them, and so on, until the bad item is alone in a Write and is refused.
Suspects are scheduled like other items: bad items of one identity do not delay another identity.

An item with a deadline is given up after the deadline.  Sync may have stored that item all the
same, and the error says so.  An item without a deadline stays until it is stored, or refused
because of its content; after any other error it is retried.

Events and ``now_s`` go in, effects come out; `coordinator.outbox_writer` does the I/O.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from midstreamer.coordinator.stored_items import Item, Receipt, receipts_of
from midstreamer.domain import errors
from midstreamer.protocol import frames
from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.fair_queue import FairQueue
from midstreamer.runtime.places import Shares

BACKOFF = Backoff(first_s=0.05, most_s=1.0)
PASSING = (errors.Unavailable, errors.DeadlineExceeded)
"""Errors that are temporary and do not depend on the content of a Write: the Write is retried."""
FINAL = (errors.BadInput, errors.LocalProtocolError)
"""Errors that an item causes at every attempt, because its content is invalid or the item is too
large for a frame."""

# --- This section defines what `Outbox.handle` takes (events) and returns (effects). ------------


@dataclass(frozen=True)
class Offered:
    """Event: a caller wants an item stored; ``key`` identifies the item in later effects."""

    key: int
    item: Item


@dataclass(frozen=True)
class Answered:
    """Event: sync committed the Write with this sequence number."""

    sequence: int
    written: frames.Written


@dataclass(frozen=True)
class Failed:
    """Event: the Write with this sequence number has failed."""

    sequence: int
    error: errors.MidstreamerError


@dataclass(frozen=True)
class Tick:
    """Event: time has passed, so deadlines and retries are checked."""


Event = Offered | Answered | Failed | Tick


@dataclass(frozen=True)
class Post:
    """Effect: send this Write to sync."""

    write: frames.Write


@dataclass(frozen=True)
class Settle:
    """Effect: give the caller of this item its receipt, because the item is committed."""

    key: int
    receipt: Receipt


@dataclass(frozen=True)
class Reject:
    """Effect: give the caller of this item the error, because the item was refused or given up."""

    key: int
    error: errors.MidstreamerError


Effect = Post | Settle | Reject


@dataclass(frozen=True)
class Limits:
    """Bounds of an outbox."""

    items_max: int = 4096
    """Maximum number of items in the outbox, at most half of them of one identity.  A further item
    is refused with `Overloaded`."""
    bytes_max: int = 64 * 1024 * 1024
    """Maximum number of bytes of all items in the outbox, at most half of them of one identity."""
    items_setting: str = "items_max"
    bytes_setting: str = "bytes_max"
    """``items_setting`` and ``bytes_setting`` are the names of the settings that give ``items_max``
    and ``bytes_max``; error messages quote them."""
    batch_bytes_max: int = frames.FRAME_BYTES_MAX // 2
    """Maximum number of payload bytes in one Write.  A larger item is sent alone."""
    backoff: Backoff = BACKOFF
    """Pause between two attempts to send the same Write."""


# --- the core -----------------------------------------------------------------------------------


@dataclass
class _Batch:
    """The Write that is under way or waits for its retry, and the keys of its items."""

    keys: list[int]
    write: frames.Write
    attempts: int = 0
    again_s: float | None = None
    """Time at which to retry the Write; None while its answer is awaited."""
    trouble: errors.MidstreamerError | None = None
    """The error of the last attempt to send the Write."""


@dataclass
class Outbox:
    """The items that one process has to write to sync."""

    limits: Limits = field(default_factory=Limits)
    _items: dict[int, Item] = field(default_factory=dict)
    _waiting: FairQueue = field(default_factory=FairQueue)
    _suspects: dict[int, int] = field(default_factory=dict)
    """The suspects: items whose Write was refused as a whole.  By key of the suspect: the maximum
    number of items in its next Write.  Suspects are never in one Write with other items."""
    _batch: _Batch | None = None
    _sequences: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self._places = Shares(self.limits.items_max)
        self._bytes = Shares(self.limits.bytes_max)

    @property
    def depth(self) -> int:
        """Number of items that are neither stored nor refused yet."""
        return len(self._items)

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Apply one event at time ``now_s`` and return the effects to carry out."""
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
        """Return when `handle` must get its next `Tick` event; None when no timer is needed."""
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
        size = item.size
        if not (self._places.fits(item.identity) and self._bytes.fits(item.identity, size)):
            return [Reject(key, self._full(item.identity, size))]
        self._items[key] = item
        self._places.take(item.identity)
        self._bytes.take(item.identity, size)
        self._waiting.push(key, item.identity, cost=size, tracks=_series(item))
        return []

    def _full(self, identity: str, size: int) -> errors.Overloaded:
        places, held, limits = self._places, self._bytes, self.limits
        return errors.Overloaded(
            f"{places.held(identity)} writes of {held.held(identity):,} B of"
            f" {identity or 'this process'} wait for sync, no room for another of {size:,} B: its"
            f" share is {places.share} writes and {held.share:,} B; all clients have"
            f" {places.taken} writes of {held.taken:,} B waiting,"
            f" {limits.items_setting}={places.limit}, {limits.bytes_setting}={held.limit:,}: send"
            " slower, or find out why sync is slow",
            retry_after_s=limits.backoff.first_s,
        )

    # --- packing ---

    def _next(self, now_s: float) -> list[Effect]:
        if self._batch is not None:
            batch = self._batch
            if batch.again_s is None or now_s < batch.again_s:
                return []
            batch.again_s = None
            return [Post(batch.write)]
        keys = self._pack()
        if not keys:
            return []
        self._batch = _Batch(keys, self._write(keys))
        return [Post(self._batch.write)]

    def _pack(self) -> list[int]:
        keys: list[int] = []
        room = _Room(self.limits.batch_bytes_max)
        first = self._waiting.peek()
        suspected = first in self._suspects
        most = self.limits.items_max
        while (key := self._waiting.peek()) is not None and (key in self._suspects) is suspected:
            most = min(most, self._suspects.get(key, most))
            if len(keys) >= most or not room.take(self._items[key]):
                break
            keys.append(self._waiting.pop())
        return keys

    def _write(self, keys: Iterable[int]) -> frames.Write:
        items = [self._items[key] for key in keys]
        return frames.Write(
            sequence=next(self._sequences),
            columns=tuple(column for item in items for column in item.columns),
            decisions=tuple(decision for item in items for decision in item.decisions),
            callers=tuple(
                frames.Caller(item.identity, len(item.columns), len(item.decisions), item.trace)
                for item in items
            ),
        )

    # --- answers ---

    def _answer(self, sequence: int, written: frames.Written) -> list[Effect]:
        batch = self._current(sequence)
        if batch is None:
            return []
        self._batch = None
        items = [self._forget(key) for key in batch.keys]
        receipts = receipts_of(items, written)
        settled: list[Effect] = list(map(Settle, batch.keys, receipts))
        for refused in written.refused:
            error = errors.from_code(refused.code, refused.message)
            settled[refused.place] = Reject(batch.keys[refused.place], error)
        return settled

    def _fail(self, sequence: int, error: errors.MidstreamerError, now_s: float) -> list[Effect]:
        batch = self._current(sequence)
        if batch is None:
            return []
        if _is_passing(error):
            return self._again(batch, error, now_s)
        if len(batch.keys) > 1:
            self._batch = None
            self._suspect(batch.keys)
            return []
        (key,) = batch.keys
        if self._items[key].deadline_s is None and not isinstance(error, FINAL):
            return self._again(batch, error, now_s)
        self._batch = None
        self._forget(key)
        return [Reject(key, error)]

    def _suspect(self, keys: list[int]) -> None:
        """Mark items of a refused Write as suspects; at most half of them share the next Write."""
        for key in reversed(keys):
            item = self._items[key]
            self._suspects[key] = len(keys) // 2
            self._waiting.put_back(key, item.identity, cost=item.size, tracks=_series(item))

    def _again(self, batch: _Batch, error: errors.MidstreamerError, now_s: float) -> list[Effect]:
        backoff = self.limits.backoff
        batch.attempts, batch.trouble = batch.attempts + 1, error
        wait_s = max(error.retry_after_s, backoff.after(batch.attempts))
        batch.again_s = now_s + min(backoff.most_s, wait_s)
        return self._expire(now_s)

    def _current(self, sequence: int) -> _Batch | None:
        batch = self._batch
        return batch if batch is not None and batch.write.sequence == sequence else None

    def _forget(self, key: int) -> Item:
        item = self._items.pop(key)
        self._suspects.pop(key, None)
        self._places.give_back(item.identity)
        self._bytes.give_back(item.identity, item.size)
        return item

    def _busy(self) -> set[int]:
        """Return the keys of the items whose Write is under way and may still be committed."""
        return set(self._batch.keys) if self._batch and self._batch.again_s is None else set()

    def _expire(self, now_s: float) -> list[Effect]:
        """Give up items whose deadline has passed, except those whose Write is under way."""
        busy = self._busy()
        late = [
            key
            for key, item in self._items.items()
            if item.deadline_s is not None and item.deadline_s <= now_s and key not in busy
        ]
        if not late:
            return []
        gone = set(late)
        self._waiting.discard(gone)
        trouble = self._batch.trouble if self._batch else None
        if self._batch and not gone.isdisjoint(self._batch.keys):
            self._thin(self._batch, gone)
        return [Reject(key, _too_late(self._forget(key), trouble)) for key in late]

    def _thin(self, batch: _Batch, gone: Collection[int]) -> None:
        """Replace the batch by one without the given items.  The new Write gets a new
        sequence number, because one number must never stand for two different contents."""
        keys = [key for key in batch.keys if key not in gone]
        self._batch = replace(batch, keys=keys, write=self._write(keys)) if keys else None


def _is_passing(error: errors.MidstreamerError) -> bool:
    """Return whether an error is temporary and not caused by the content of a Write.

    A StoreError is temporary only when it has a ``retry_after_s``.
    """
    objects = isinstance(error, errors.StoreError) and not error.retry_after_s
    return isinstance(error, PASSING) and not objects


def _series(item: Item) -> Iterable[str]:
    """Return the series of the ticks in an item: items with ticks of one series keep their order.
    Decisions need no order, because the ticks to which they refer are stored already."""
    return (column.series for column in item.columns)


def _too_late(item: Item, trouble: errors.MidstreamerError | None) -> errors.MidstreamerError:
    cause = f"; the last error was error[{trouble.code}]: {trouble.message}" if trouble else ""
    return errors.DeadlineExceeded(
        f"{item.ticks} ticks and {len(item.decisions)} decisions were not acknowledged as durable"
        f" before the deadline; they may be stored nevertheless, and it is safe to send them"
        f" again{cause}"
    )


class _Room:
    """The room that is left in a Write for further items.  The first item always fits."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes = bytes_max
        self._ticks = frames.TICKS_MAX
        self._columns = frames.COLUMNS_MAX
        self._decisions = frames.DECISIONS_MAX
        self._ids: set[bytes] = set()
        self._empty = True

    def take(self, item: Item) -> bool:
        """Return whether the item fits into the Write; count the item as taken if so."""
        self._bytes -= item.size
        self._ticks -= item.ticks
        self._columns -= len(item.columns)
        self._decisions -= len(item.decisions)
        room = min(self._bytes, self._ticks, self._columns, self._decisions)
        fits = room >= 0 and not self._clashes(item)
        if not (fits or self._empty):
            return False
        self._empty = False
        self._ids.update(decision.experience_id for decision in item.decisions)
        return True

    def _clashes(self, item: Item) -> bool:
        """Return whether a decision of ``item`` has the id of a decision already in the Write.

        If a Write had the same decision twice, its answer could not say which was stored first.
        """
        return any(decision.experience_id in self._ids for decision in item.decisions)
