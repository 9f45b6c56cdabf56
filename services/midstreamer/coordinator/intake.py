"""What "acknowledged" means here: each level's way into the outbox.

durable    waits until sync has committed
received   answers at once; the outbox goes on without anybody waiting
spooled    answers once the write is fsynced here, and plays it again after a restart
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import msgspec

from midstreamer.coordinator.spool import Place, Record, Spool
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput, MidstreamerError, Overloaded
from midstreamer.domain.series import Column
from midstreamer.protocol.frames import Level
from midstreamer.runtime.outbox import Item, Receipt
from midstreamer.runtime.writer import Writer
from midstreamer.telemetry import logs

REPLAY_PAUSE_S = 0.05

log = logs.get(__name__)


class _Payload(msgspec.Struct, frozen=True):
    """A spooled item on disk. New fields at the end, with defaults."""

    columns: tuple[Column, ...] = ()
    decisions: tuple[Decision, ...] = ()


class _Promise(NamedTuple):
    payload: bytes
    place: asyncio.Future[Place]


class Intake:
    """Stores items at the level asked for; with a spool, `run` and `replay` it."""

    def __init__(self, writer: Writer, spool: Spool | None) -> None:
        self._writer = writer
        self._spool = spool
        self._jobs: asyncio.Queue[_Promise | Place] = asyncio.Queue()

    async def store(self, item: Item, level: Level, deadline_s: float) -> Receipt:
        """A Receipt; of position 0 and no counts where the store has not answered yet."""
        if level is Level.DURABLE:
            return await self._writer.offer(replace(item, deadline_s=deadline_s))
        if level is Level.SPOOLED:
            await self._promise(item)
        else:
            self._writer.offer(item).add_done_callback(partial(_note_refusal, level=level))
        return Receipt(position=0, decisions=item.decisions)

    async def _promise(self, item: Item) -> None:
        if self._spool is None:
            raise BadInput(
                f"level {Level.SPOOLED} is not offered here: set coordinator.spool_dir to a folder"
                f" on a volume that outlives the process, or ask for {Level.DURABLE}"
            )
        place: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        payload = msgspec.msgpack.encode(_Payload(item.columns, item.decisions))
        self._jobs.put_nowait(_Promise(payload, place))
        self._offer(await place, item)

    def _offer(self, place: Place, item: Item) -> None:
        """Hand a spooled item on; it leaves the spool when it is stored, or refused for good."""
        try:
            stored = self._writer.offer(item)
        except Overloaded:
            self._jobs.put_nowait(place)  # not promised after all: its caller is told
            raise
        self._keep_until_settled(place, stored)

    def _keep_until_settled(self, place: Place, stored: asyncio.Future[Receipt]) -> None:
        stored.add_done_callback(partial(_note_refusal, level=Level.SPOOLED))
        stored.add_done_callback(lambda _: self._jobs.put_nowait(place))

    async def replay(self, records: Sequence[Record]) -> None:
        """Send what an earlier process had promised, as fast as the outbox takes it."""
        for record in records:
            payload = msgspec.msgpack.decode(record.payload, type=_Payload)
            item = Item(payload.columns, payload.decisions)
            while not self._replayed(record.place, item):  # noqa: ASYNC110 - a queue with no event
                await asyncio.sleep(REPLAY_PAUSE_S)
        if records:
            log.info("spool.replayed", records=len(records))

    def _replayed(self, place: Place, item: Item) -> bool:
        try:
            stored = self._writer.offer(item)
        except Overloaded:
            return False
        self._keep_until_settled(place, stored)
        return True

    async def run(self) -> None:
        """Do the spool's file work: everything that waits shares one fsync."""
        while True:
            jobs = [await self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get_nowait())
            promises = [job for job in jobs if isinstance(job, _Promise)]
            settled = [job for job in jobs if isinstance(job, Place)]
            try:
                places = await asyncio.to_thread(self._write, promises, settled)
            except MidstreamerError as error:
                for promise in promises:
                    if not promise.place.done():
                        promise.place.set_exception(error)
                continue
            for promise, place in zip(promises, places, strict=True):
                if promise.place.done():  # its caller has gone without a promise
                    self._jobs.put_nowait(place)
                else:
                    promise.place.set_result(place)

    def _write(self, promises: list[_Promise], settled: list[Place]) -> list[Place]:
        assert self._spool is not None  # noqa: S101 - nothing is queued without one
        for place in settled:
            self._spool.settle(place)
        return self._spool.append([promise.payload for promise in promises]) if promises else []


def _note_refusal(stored: asyncio.Future[Receipt], *, level: Level) -> None:
    """Nobody waits for this answer: say so when it is bad."""
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.error("write.refused", level=level, detail=str(error))
