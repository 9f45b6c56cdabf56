"""Loads and the change feed overlap in any way; shards still become complete, without gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import astuple

from midstreamer.agent import shard_loading
from midstreamer.agent.shard_loading import Library
from midstreamer.domain import errors
from midstreamer.domain.series import Column
from midstreamer.domain.shard import Shard
from midstreamer.protocol.frames import Answer, Load, Loaded, Part
from midstreamer.store import store_interface
from midstreamer.store.store_interface import fitting
from tests.support.fleet import a_column, eventually

POINTS = 64
SHARD = Shard("walk/a", 1)
WALK = a_column(300)


def part(start: int, stop: int) -> Column:
    return Column(WALK.series, WALK.times[8 * start : 8 * stop], WALK.values[8 * start : 8 * stop])


class Sync:
    """A fake session with sync, which has stored ``count`` points of the series.

    Each answer to a Load holds no more points than ``most`` allows.
    """

    def __init__(self, count: int, *, most: int = 1000) -> None:
        self.count = count
        self.most = most
        self.loads: list[Load] = []
        self.before: Callable[[], None] = lambda: None
        self.error: errors.MidstreamerError | None = None

    async def ask(self, load: Load, *, budget_s: float) -> Answer:
        self.loads.append(load)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        runs = fitting(
            [store_interface.Run(*astuple(run)) for run in load.runs],
            {WALK.series: self.count},
            self.most,
        )
        answer = Loaded(
            parts=tuple(Part(part(run.start, run.stop), run.start, self.count) for run in runs)
        )
        self.before()
        return answer


class Desk:
    """A `Library` under test, and what it reported about its shards.

    ``filled`` lists the shards that became complete. ``torn`` lists those that stopped being so.
    """

    def __init__(self, sync: Sync, count: int) -> None:
        self.counts = {"walk/a": count}
        self.filled: list[Shard] = []
        self.torn: list[Shard] = []
        self.library = Library(
            sync,  # type: ignore[arg-type]  # all of a session that is used
            self.counts,
            filled=self.filled.append,
            torn=self.torn.append,
            budget_s=1.0,
        )

    def feed(self, start: int, stop: int) -> None:
        self.counts["walk/a"] = max(stop, self.counts["walk/a"])
        self.library.take(start, part(start, stop))

    async def load(self) -> None:
        """Run the library until the shard is complete."""
        running = asyncio.ensure_future(self.library.run())
        try:
            await eventually(lambda: bool(self.filled))
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_a_shard_is_loaded_in_as_many_parts_as_it_takes() -> None:
    sync = Sync(300, most=100)
    desk = Desk(sync, 300)
    desk.library.hold(SHARD, POINTS)
    await desk.load()
    assert [run.start for load in sync.loads for run in load.runs] == [64, 164, 264]
    assert desk.library.whole(SHARD).end == 300


async def test_what_the_feed_brings_during_a_load_is_loaded_after_it() -> None:
    sync = Sync(200)
    desk = Desk(sync, 200)

    def grow() -> None:
        if sync.count == 200:
            sync.count = 300
            desk.feed(200, 300)

    sync.before = grow
    desk.library.hold(SHARD, POINTS)
    await desk.load()
    assert [run.start for load in sync.loads for run in load.runs] == [64, 200]
    assert desk.library.whole(SHARD).end == 300


async def test_a_new_shard_is_filled_by_the_feed_alone() -> None:
    sync = Sync(0)
    desk = Desk(sync, 60)
    desk.library.hold(SHARD, POINTS)
    desk.feed(60, 70)
    assert desk.filled == [SHARD]
    assert sync.loads == []


async def test_a_gap_is_noticed_and_mended() -> None:
    sync = Sync(300)
    desk = Desk(sync, 60)
    desk.library.hold(SHARD, POINTS)
    desk.feed(60, 70)
    desk.filled.clear()
    desk.feed(80, 90)
    assert desk.torn == [SHARD]
    with pytest.raises(errors.Unavailable):
        desk.library.whole(SHARD)
    desk.library.hold(SHARD, POINTS)
    await desk.load()
    assert desk.library.whole(SHARD).end >= 90


async def test_a_load_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_loading, "PAUSE_S", 0.0)
    sync = Sync(300)
    sync.error = errors.StoreError("away")
    desk = Desk(sync, 300)
    desk.library.hold(SHARD, POINTS)
    await desk.load()
    assert len(sync.loads) == 2


async def test_a_sync_with_fewer_points_than_the_feed_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard_loading, "PAUSE_S", 0.0)
    sync = Sync(100)
    desk = Desk(sync, 120)
    desk.library.hold(SHARD, POINTS)
    running = asyncio.ensure_future(desk.library.run())
    await eventually(lambda: len(sync.loads) > 2)
    assert desk.filled == []
    sync.count = 120
    await eventually(lambda: desk.filled == [SHARD])
    running.cancel()
    await asyncio.wait([running])


async def test_short_shards_are_loaded_together() -> None:
    sync = Sync(300, most=500)
    desk = Desk(sync, 300)
    shards = [Shard("walk/a", number) for number in range(5)]
    for shard in shards:
        desk.library.hold(shard, POINTS)
    running = asyncio.ensure_future(desk.library.run())
    await eventually(lambda: desk.filled == shards)
    assert [[run.start for run in load.runs] for load in sync.loads] == [
        [0, 64, 128, 192, 256],
        [264, 128, 192, 256],
    ]
    running.cancel()
    await asyncio.wait([running])


async def test_a_dropped_shard_is_not_loaded() -> None:
    sync = Sync(300)
    desk = Desk(sync, 300)
    desk.library.hold(SHARD, POINTS)
    desk.library.drop(SHARD)
    other = Shard("walk/a", 0)
    desk.library.hold(other, POINTS)
    await desk.load()
    assert desk.filled == [other]
    desk.library.clear()
    with pytest.raises(errors.Unavailable):
        desk.library.whole(other)
