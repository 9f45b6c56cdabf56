"""Store items at the level of acknowledgement that the client has requested.

durable    acknowledge after sync has committed the item
received   acknowledge at once; the item then waits in the outbox, and is lost if the process dies
spooled    acknowledge after the item is fsynced in the local spool; it is replayed after a restart

After a restart, new writes wait until the whole spool has been put into the outbox.  Otherwise
newer ticks of a series could be stored before older ones, and the older ones would be refused.

One identity may use at most half of the spool, and half of the places for waiting writes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import msgspec

from midstreamer.coordinator.outbox_writer import Writer
from midstreamer.coordinator.spool import REFUSED, Place, Record, Spool
from midstreamer.coordinator.stored_items import Item, Receipt
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import (
    BadInput,
    MidstreamerError,
    Overloaded,
    StoreError,
    Unavailable,
)
from midstreamer.domain.series import Column
from midstreamer.protocol.frames import Level
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.places import Shares
from midstreamer.telemetry import logs

REPLAY_PAUSE_S = 0.05
"""Seconds to wait before the replay retries a record for which the outbox had no room."""
RETRY_AFTER_S = 0.5
"""Seconds after which a client should retry a write that is refused for lack of room."""
SET_ASIDE_BYTES = 512
"""Bytes counted for a record that is set aside, in addition to twice the size of its payload. They
are for the reason and the JSON syntax. The payload is text in this JSON, which takes up to twice
its size."""
REPLAY_WAITS_MAX = 256
"""Maximum number of new writes that wait for the replay of the spool."""

log = logs.get(__name__)


class _Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The encoding of an item in the spool.  Add new fields at the end, with defaults.

    A field with its default value is not written, so that an older version can read the record.  A
    record with a field that this version does not know is set aside, because ignoring the field
    could change what is stored.
    """

    columns: tuple[Column, ...] = ()
    decisions: tuple[Decision, ...] = ()
    identity: str = ""


class _Promise(NamedTuple):
    """A record that must be written to the spool.  The future ``place`` gets the record's place in
    the spool once the record is fsynced."""

    payload: bytes
    place: asyncio.Future[Place]


class _Refusal(NamedTuple):
    """A spooled record that can never be stored, because sync has refused it or this version cannot
    read it.  The record is set aside."""

    place: Place
    payload: bytes
    reason: str


_Job = _Promise | _Refusal | Place


class Intake:
    """Stores items at the requested level.  With a spool, `Intake.run` must be running while items
    are stored, and `replay` must be called once after the start."""

    def __init__(self, writer: Writer, spool: Spool | None) -> None:
        self._writer = writer
        self._spool = spool
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._left: deque[Record] = deque()
        self._caught_up = asyncio.Event()
        self._caught_up.set()
        self._spooled = Shares(spool.bytes_max if spool else 0)
        # Places for new writes that wait until the spool is replayed.  If no place is free, a write
        # is refused at once (line=0).  If the write waited in line, it would get a place only after
        # the replay.  Writes that arrive after the replay need no place, and could be stored first.
        self._waits = Admission(
            REPLAY_WAITS_MAX,
            line=0,
            what="writes behind the replay of the spool",
            setting="REPLAY_WAITS_MAX",
            retry_after_s=RETRY_AFTER_S,
        )

    @property
    def left(self) -> int:
        """Number of spooled records of an earlier process that are not in the outbox yet."""
        return len(self._left)

    def resume(self, records: Iterable[Record]) -> None:
        """Register the records of an earlier process; new writes wait until `replay` has put
        these records into the outbox."""
        self._left.extend(records)
        if self._left:
            self._caught_up.clear()

    async def store(self, item: Item, level: Level, deadline_s: float) -> Receipt:
        """Store an item at the requested level of acknowledgement, and return its Receipt.

        At the levels received and spooled, the Receipt has position 0 and no counts, because sync
        has not answered yet.

        Raise Overloaded when the outbox or the spool has no room for the item, or when too many
        new writes already wait for the replay of the spool.  Raise Unavailable when that replay
        takes longer than the deadline.
        """
        if not self._caught_up.is_set():
            async with self._waits.place(item.identity, deadline_s):
                await self._turn_of_new(deadline_s)
        if level is Level.DURABLE:
            return await self._writer.offer(replace(item, deadline_s=deadline_s))
        if level is Level.SPOOLED:
            await self._promise(item)
        else:
            self._writer.offer(item).add_done_callback(partial(_note_refusal, level=level))
        return Receipt(position=0, decisions=item.decisions)

    async def _turn_of_new(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._caught_up.wait()
        except TimeoutError as error:
            raise Unavailable(
                f"{self.left} writes spooled before the last restart wait for sync, and new writes"
                " wait for them: retry later",
                retry_after_s=RETRY_AFTER_S,
            ) from error

    async def _promise(self, item: Item) -> None:
        if self._spool is None:
            raise BadInput(
                f"this coordinator does not offer the level {Level.SPOOLED}: set"
                " coordinator.spool_dir to a folder on a volume that outlives the process, or ask"
                f" for {Level.DURABLE}"
            )
        place: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        payload = _encoded(item)
        give_back = self._take_room(item.identity, len(payload))
        self._jobs.put_nowait(_Promise(payload, place))
        try:
            self._offer(await place, item, len(payload))
        except asyncio.CancelledError:
            give_back()
            if place.done() and not place.cancelled() and place.exception() is None:
                # The caller was cancelled after the record was spooled: remove it from the spool.
                self._jobs.put_nowait(place.result())
            raise
        except BaseException:
            give_back()
            raise

    def _take_room(self, identity: str, size: int) -> Callable[[], None]:
        """Count the bytes of a record towards the share of an identity.

        Return a function that undoes this, for a record that is not spooled after all.  Raise
        Overloaded when the identity or the spool has no room.
        """
        spooled = self._spooled
        if not spooled.fits(identity, size):
            raise Overloaded(
                f"{spooled.held(identity):,} B of {identity} are spooled, no room for another"
                f" {size:,} B: its share is {spooled.share:,} B; all clients take"
                f" {spooled.taken:,} B, coordinator.spool_bytes_max={spooled.limit:,}: send"
                " slower, or find out why sync is slow",
                retry_after_s=RETRY_AFTER_S,
            )
        spooled.take(identity, size)
        return partial(spooled.give_back, identity, size)

    def _offer(self, place: Place, item: Item, size: int) -> None:
        """Put a spooled item into the outbox.  Its record leaves the spool when the item is stored
        or set aside."""
        try:
            stored = self._writer.offer(item)
        except Overloaded:
            # Remove the record from the spool: the caller gets Overloaded, so nothing was promised.
            self._jobs.put_nowait(place)
            raise
        stored.add_done_callback(partial(self._room_after, item.identity, size))
        self._keep_until_settled(place, item, stored)

    def _room_after(self, identity: str, size: int, stored: asyncio.Future[Receipt]) -> None:
        """If sync has stored an item, give the room of its spooled record back to the identity.

        If sync has refused the item, its record is set aside: it stays on disk and takes more bytes
        than before.  Count these bytes towards the share of the identity too, so that one client
        with bad writes cannot fill the spool.
        """
        if stored.cancelled() or stored.exception() is None:
            self._spooled.give_back(identity, size)
        else:
            self._spooled.take(identity, size + SET_ASIDE_BYTES)

    def _keep_until_settled(
        self, place: Place, item: Item, stored: asyncio.Future[Receipt]
    ) -> None:
        def settled(stored: asyncio.Future[Receipt]) -> None:
            if stored.cancelled():
                return
            error = stored.exception()
            self._jobs.put_nowait(_Refusal(place, _encoded(item), str(error)) if error else place)

        stored.add_done_callback(settled)

    async def replay(self) -> None:
        """Put the records of an earlier process into the outbox, each as soon as the outbox has
        room for it.  Then let new writes continue."""
        records = self.left
        while self._left:
            if self._replayed(self._left[0]):
                self._left.popleft()
            else:
                await asyncio.sleep(REPLAY_PAUSE_S)
        self._caught_up.set()
        if records:
            log.info("spool.replayed", records=records)

    def _replayed(self, record: Record) -> bool:
        try:
            payload = msgspec.msgpack.decode(record.payload, type=_Payload)
        except msgspec.MsgspecError as error:
            self._jobs.put_nowait(
                _Refusal(*record, f"not a spooled write that this version can read: {error}")
            )
            return True
        # An earlier version of this program spooled columns without ticks too.  Sync refuses such
        # columns, so drop them here.
        columns = tuple(column for column in payload.columns if len(column))
        item = Item(columns, payload.decisions, identity=payload.identity)
        try:
            stored = self._writer.offer(item)
        except Overloaded:
            return False
        self._keep_until_settled(record.place, item, stored)
        return True

    async def run(self) -> None:
        """Write to the spool and remove records from it, until cancelled.  All records that wait
        at the same time share one fsync."""
        while True:
            jobs = [await self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get_nowait())
            promises = [job for job in jobs if isinstance(job, _Promise)]
            settled = [job for job in jobs if not isinstance(job, _Promise)]
            try:
                places = await asyncio.to_thread(self._write, promises, settled)
            except MidstreamerError as error:
                for promise in promises:
                    if not promise.place.done():
                        promise.place.set_exception(error)
                continue
            for promise, place in zip(promises, places, strict=True):
                if promise.place.done():  # the caller was cancelled: remove the spooled record
                    self._jobs.put_nowait(place)
                else:
                    promise.place.set_result(place)

    def _write(self, promises: list[_Promise], settled: list[Place | _Refusal]) -> list[Place]:
        assert self._spool is not None  # noqa: S101 - nothing is queued without one
        for job in settled:
            try:
                self._settle(self._spool, job)
            except StoreError as error:  # the record stays in the spool; a restart replays it
                log.warning("spool.not_settled", detail=error.message)
        return self._spool.append([promise.payload for promise in promises]) if promises else []

    def _settle(self, spool: Spool, job: Place | _Refusal) -> None:
        if isinstance(job, Place):
            spool.settle(job)
            return
        log.error("write.refused", level=Level.SPOOLED, detail=job.reason, kept_in=REFUSED)
        spool.set_aside(*job)


def _encoded(item: Item) -> bytes:
    return msgspec.msgpack.encode(_Payload(item.columns, item.decisions, item.identity))


def _note_refusal(stored: asyncio.Future[Receipt], *, level: Level) -> None:
    """If sync has refused an item, log the error that it gave.

    The item was acknowledged before, so no caller waits for the error any more.
    """
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.error("write.refused", level=level, detail=str(error))
