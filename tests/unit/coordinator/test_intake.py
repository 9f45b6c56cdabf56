"""A spooled write is stored exactly once, even if the coordinator process dies at any moment."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.coordinator import outbox
from midstreamer.coordinator.intake import REPLAY_WAITS_MAX, Intake, _Promise
from midstreamer.coordinator.outbox import Outbox
from midstreamer.coordinator.outbox_writer import Writer
from midstreamer.coordinator.spool import Place, Record, Spool
from midstreamer.coordinator.stored_items import Item
from midstreamer.domain import errors
from midstreamer.domain.series import Column, column
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Level, Write, Written
from midstreamer.runtime.places import Shares
from tests.support.fleet import eventually


def an_item(time: int) -> Item:
    return Item((column("u/s", [time], [float(time)]),))


class Process:
    """A coordinator process that spools writes, and sends them to the store through the outbox.

    The process can die between any two steps: then it raises `Killed`.
    """

    def __init__(self, folder: Path, stored: list[int], lives: list[int]) -> None:
        self.spool = Spool(folder, bytes_max=1 << 20, segment_bytes=64)
        self.stored = stored
        self.lives = lives
        self.outbox = Outbox()
        self.places: dict[int, Place] = {}
        self.posts: list[Write] = []
        self.keys = itertools.count(1)

    def step(self) -> None:
        """Mark a point at which the process may die; raise `Killed` when it does."""
        self.lives[0] -= 1
        if self.lives[0] == 0:
            raise Killed

    def start(self) -> None:
        for record in self.spool.start():
            self.step()
            (time,) = msgspec.msgpack.decode(record.payload)
            self.offer(time, record.place)

    def promise(self, time: int) -> None:
        (place,) = self.spool.append([msgspec.msgpack.encode([time])])
        self.step()
        self.offer(time, place)

    def offer(self, time: int, place: Place) -> None:
        # A sender repeats a tick that got no answer. The outbox may then have two items with the
        # same time, so the time cannot be the key. A counter gives each item a key of its own.
        key = next(self.keys)
        self.places[key] = place
        self.take(self.outbox.handle(outbox.Offered(key, an_item(time)), 0.0))

    def take(self, effects: list[outbox.Effect]) -> None:
        for effect in effects:
            self.step()
            if isinstance(effect, outbox.Post):
                self.posts.append(effect.write)
            else:
                self.spool.settle(self.places.pop(effect.key))

    def flush(self) -> None:
        while self.posts:
            write = self.posts.pop()
            for time in (int(time) for one in write.columns for time in one.times_array()):
                if time not in self.stored:  # sync stores each tick once, by series and time
                    self.stored.append(time)
            self.step()
            self.take(self.outbox.handle(outbox.Answered(write.sequence, Written()), 0.0))


class Killed(Exception):
    """The process was killed with SIGKILL."""


@given(count=st.integers(1, 6), lives=st.lists(st.integers(1, 12), max_size=4))
def test_killed_at_any_step_and_started_again_nothing_is_lost_or_doubled(
    count: int, lives: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, stored = tmp_path_factory.mktemp("spool"), list[int]()
    promised, wanted = set[int](), list(range(1, count + 1))
    for life in [*lives, 10_000]:
        process = Process(folder, stored, [life])
        try:
            process.start()
            while wanted:
                process.promise(wanted[0])
                promised.add(wanted.pop(0))
            process.flush()
        except Killed:
            pass
        finally:
            process.spool.close()
    assert promised <= set(stored)
    assert len(stored) == len(set(stored))
    assert list(folder.glob("spool-*")) == []


async def away(write: Write, budget_s: float) -> frames.Answer:
    raise errors.StoreError("away")


async def test_promises_that_wait_together_share_one_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, batches = Spool(tmp_path, bytes_max=1 << 20), list[int]()
    spool.start()
    append = spool.append

    def counted(payloads: Sequence[bytes]) -> list[Place]:
        batches.append(len(payloads))
        return append(payloads)

    monkeypatch.setattr(spool, "append", counted)
    intake = Intake(Writer(away), spool)
    storing = [
        asyncio.ensure_future(intake.store(an_item(time), Level.SPOOLED, 0.0))
        for time in range(1, 30)
    ]
    await asyncio.sleep(0)
    running = asyncio.ensure_future(intake.run())
    receipts = await asyncio.gather(*storing)
    assert batches == [29]
    assert {receipt.position for receipt in receipts} == {0}
    running.cancel()
    await asyncio.wait([running])
    spool.close()


async def test_a_spool_that_is_full_promises_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=10)
    spool.start()
    intake = Intake(Writer(away), spool)
    running = asyncio.ensure_future(intake.run())
    with pytest.raises(errors.Overloaded):
        await intake.store(an_item(1), Level.SPOOLED, 0.0)
    running.cancel()
    await asyncio.wait([running])
    spool.close()


async def test_an_outbox_that_is_full_takes_the_promise_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=1 << 20)
    spool.start()
    writer = Writer(away, outbox.Limits(items_max=1))
    waiting = writer.offer(an_item(1))
    intake = Intake(writer, spool)
    running = asyncio.ensure_future(intake.run())
    with pytest.raises(errors.Overloaded):
        await intake.store(an_item(2), Level.SPOOLED, 0.0)
    await eventually(lambda: not list(tmp_path.glob("spool-*")))
    running.cancel()
    await asyncio.wait([running])
    waiting.cancel()
    spool.close()


async def test_a_caller_that_leaves_while_its_write_is_spooled_leaves_no_record(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, bytes_max=1 << 20)
    spool.start()
    intake = Intake(Writer(away), spool)
    storing = asyncio.ensure_future(intake.store(an_item(1), Level.SPOOLED, 0.0))
    await asyncio.sleep(0)
    promise = intake._jobs.get_nowait()
    assert isinstance(promise, _Promise)
    (place,) = spool.append([promise.payload])
    promise.place.set_result(place)
    storing.cancel()
    await asyncio.wait([storing])
    # The write was put into the spool, but its caller left before the write was acknowledged. So
    # nobody relies on the record, and the intake has a new job: to remove it from the spool.
    assert intake._jobs.get_nowait() == place
    assert intake._spooled.taken == 0
    spool.close()


class Store:
    """A stand-in for sync that accepts the ticks of a series only in order of time."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.callers: list[frames.Caller] = []
        self.up = asyncio.Event()

    async def ask(self, write: Write, budget_s: float) -> frames.Answer:
        await self.up.wait()
        times = [int(time) for one in write.columns for time in one.times_array()]
        if self.times and times[0] <= self.times[-1]:
            raise errors.StaleTick(f"{times[0]} after {self.times[-1]}")
        self.times += times
        self.callers += write.callers
        return Written(position=len(self.times), stored=len(times))


@asynccontextmanager
async def an_intake(folder: Path, store: Store, *, items_max: int = 100) -> AsyncIterator[Intake]:
    spool = Spool(folder, bytes_max=1 << 20)
    writer = Writer(store.ask, outbox.Limits(items_max=items_max))
    intake = Intake(writer, spool)
    intake.resume(spool.start())
    tasks = [asyncio.ensure_future(run()) for run in (writer.run, intake.run, intake.replay)]
    try:
        yield intake
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        spool.close()


def soon() -> float:
    return asyncio.get_running_loop().time() + 10.0


async def test_new_writes_come_after_all_that_was_spooled(tmp_path: Path) -> None:
    store = Store()
    async with an_intake(tmp_path, store) as intake:
        for time in range(1, 41):
            await intake.store(an_item(time), Level.SPOOLED, soon())
    async with an_intake(tmp_path, store, items_max=4) as intake:
        newer = asyncio.ensure_future(intake.store(an_item(41), Level.DURABLE, soon()))
        await asyncio.sleep(0)
        assert intake.left > 0
        store.up.set()
        await newer
        assert store.times == list(range(1, 42))
        await eventually(lambda: not list(tmp_path.glob("spool-*")))
    assert not (tmp_path / "refused").exists()


async def test_a_spooled_write_is_counted_for_its_client_after_a_restart_too(
    tmp_path: Path,
) -> None:
    store = Store()
    item = replace(an_item(1), identity="client/u1")
    async with an_intake(tmp_path, store) as intake:
        await intake.store(item, Level.SPOOLED, soon())
    store.up.set()
    async with an_intake(tmp_path, store):
        await eventually(lambda: not list(tmp_path.glob("spool-*")))
    assert store.callers == [frames.Caller("client/u1", 1, 0)]


async def test_a_column_without_a_tick_that_an_earlier_version_spooled_is_left_out(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, bytes_max=1 << 20)
    spool.start()
    columns = (*an_item(1).columns, Column("u/empty", b"", b""))
    spool.append([msgspec.msgpack.encode({"columns": columns, "decisions": ()})])
    spool.close()
    store = Store()
    store.up.set()
    async with an_intake(tmp_path, store):
        await eventually(lambda: not list(tmp_path.glob("spool-*")))
    assert store.callers == [frames.Caller("", 1, 0)]


async def test_a_new_write_waits_no_longer_than_its_caller(tmp_path: Path) -> None:
    store = Store()
    async with an_intake(tmp_path, store) as intake:
        for time in range(1, 4):
            await intake.store(an_item(time), Level.SPOOLED, soon())
    async with an_intake(tmp_path, store, items_max=1) as intake:
        with pytest.raises(errors.Unavailable, match="writes spooled before") as raised:
            await intake.store(an_item(4), Level.DURABLE, 0.0)
    assert raised.value.retry_after_s > 0


async def test_a_promise_that_cannot_be_kept_is_set_aside(tmp_path: Path) -> None:
    store = Store()
    store.up.set()
    async with an_intake(tmp_path, store) as intake:
        for time in (5, 3):
            await intake.store(an_item(time), Level.SPOOLED, soon())
        await eventually(lambda: not list(tmp_path.glob("spool-*")))
    assert b"3 after 5" in (tmp_path / "refused").read_bytes()


async def test_a_record_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    store = Store()
    async with an_intake(tmp_path, store) as intake:
        await intake.store(an_item(1), Level.SPOOLED, soon())
    spool = Spool(tmp_path, bytes_max=1 << 20)
    spool.start()
    spool.append([b"\xc1"])
    spool.close()
    store.up.set()
    async with an_intake(tmp_path, store) as intake:
        await intake.store(an_item(2), Level.SPOOLED, soon())
        await eventually(lambda: not list(tmp_path.glob("spool-*")))
    assert store.times == [1, 2]
    assert b"not a spooled write" in (tmp_path / "refused").read_bytes()


async def test_the_spool_goes_on_after_a_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Store()
    async with an_intake(tmp_path, store) as intake:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(errors.StoreError, match="No space"):
                await intake.store(an_item(1), Level.SPOOLED, soon())
        await intake.store(an_item(2), Level.SPOOLED, soon())
        store.up.set()
        await eventually(lambda: not list(tmp_path.glob("spool-*")))
    assert store.times == [2]


async def test_one_identity_has_at_most_half_of_the_spool(tmp_path: Path) -> None:
    store = Store()
    async with an_intake(tmp_path, store) as intake:
        intake._spooled = Shares(1000)
        greedy = replace(an_item(1), identity="client/greedy")
        storing = (intake.store(greedy, Level.SPOOLED, soon()) for _ in range(20))
        with pytest.raises(errors.Overloaded, match=r"greedy are spooled.*its share is 500 B"):
            await asyncio.gather(*storing)
        await intake.store(replace(an_item(2), identity="client/good"), Level.SPOOLED, soon())
        store.up.set()
        await eventually(lambda: intake._spooled.held("client/good") == 0)


async def test_writes_set_aside_count_for_their_senders(tmp_path: Path) -> None:
    store = Store()
    store.up.set()
    async with an_intake(tmp_path, store) as intake:
        await intake.store(replace(an_item(5), identity="client/good"), Level.SPOOLED, soon())
        stale = replace(an_item(3), identity="client/greedy")

        async def flood() -> None:
            for _ in range(5000):
                await intake.store(stale, Level.SPOOLED, soon())

        with pytest.raises(errors.Overloaded, match="of client/greedy are spooled"):
            await flood()
        await intake.store(replace(an_item(6), identity="client/good"), Level.SPOOLED, soon())
        await eventually(lambda: store.times == [5, 6])


async def test_one_identity_has_at_most_half_of_the_places_behind_the_replay(
    tmp_path: Path,
) -> None:
    intake = Intake(Writer(away), None)
    intake.resume([Record(Place(1, 1), b"")])
    greedy, good = (replace(an_item(1), identity=f"client/{name}") for name in ("greedy", "good"))
    waiting = [
        asyncio.ensure_future(intake.store(greedy, Level.DURABLE, soon()))
        for _ in range(REPLAY_WAITS_MAX // 2)
    ]
    await asyncio.sleep(0)
    with pytest.raises(errors.Overloaded, match="client/greedy has 128"):
        await intake.store(greedy, Level.DURABLE, soon())
    with pytest.raises(errors.Unavailable, match="writes spooled before"):
        await intake.store(good, Level.DURABLE, 0.0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
