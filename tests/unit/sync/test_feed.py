"""The change feed in memory: order, gaps, and frames of bounded size."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from midstreamer.protocol import encoded_sizes
from midstreamer.protocol.capabilities import OURS
from midstreamer.protocol.frames import Change, Changes, Joined, Learned, Points, Skipped
from midstreamer.runtime.peer import Peer
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import FeedPage
from midstreamer.sync import recent_changes
from midstreamer.sync.feed import Feed, frames_of
from midstreamer.sync.recent_changes import Recent
from tests.support.fleet import eventually
from tests.support.store_builders import a_column


def _feed() -> Feed:
    return Feed(MemoryStore(), memory=8)


def _change(version: int) -> Change:
    return Learned("s", version, b"")


def test_commits_announced_out_of_order_come_in_order() -> None:
    feed = _feed()
    feed.publish(1, [_change(2)])
    assert feed.position == 0
    feed.publish(0, [_change(1)])
    assert feed.position == 2
    assert feed._recent.page(1) == FeedPage((_change(2),), 2)


def test_what_memory_does_not_reach_is_left_to_the_store() -> None:
    feed = _feed()
    for at in range(20):
        feed.publish(at, [_change(at + 1)])
    assert feed._recent.page(11) is None
    assert feed._recent.page(12) is not None
    assert feed._recent.page(21) is None


def test_memory_is_bounded_in_bytes_as_well() -> None:
    memory = Recent(10**6)
    for at in range(100):
        memory.publish(at, [Learned("s", at + 1, bytes(2**20))])
    assert (
        sum(encoded_sizes.change_bytes(change) for change in memory._newest)
        <= recent_changes.MEMORY_BYTES
    )
    assert memory.page(99) == FeedPage((Learned("s", 100, bytes(2**20)),), 100)
    assert memory.page(0) is None


def test_a_large_page_is_cut_and_only_its_end_has_its_position() -> None:
    changes = tuple(Points(at, a_column(0, 40_000)) for at in range(4))
    cut = list(frames_of(FeedPage(changes, 9), 1, 5))
    assert [frame.position for frame in cut] == [5, 5, 5, 9]
    assert tuple(change for frame in cut for change in frame.changes) == changes


def test_an_empty_page_still_tells_its_position() -> None:
    (only,) = frames_of(FeedPage((Joined(()),), 3), 1, 0)
    assert (only.position, only.changes) == (3, (Joined(()),))


class Follower:
    """A stand-in for the connection of a follower; it records the frames sent to it."""

    capabilities = frozenset(OURS)

    def __init__(self) -> None:
        self.told: list[Changes] = []

    async def drained(self) -> None:
        """Return at once, because this follower takes frames without back-pressure."""

    def tell(self, frame: Changes) -> None:
        self.told.append(frame)


async def test_a_follower_without_missing_changes_learns_so_at_once() -> None:
    feed, follower = _feed(), Follower()
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0))
    await eventually(lambda: bool(follower.told))
    assert follower.told == [Changes(request=7, position=0, changes=())]

    feed.publish(0, [_change(1)])
    await eventually(lambda: len(follower.told) > 1)
    assert follower.told[1:] == [Changes(request=7, position=1, changes=(_change(1),))]
    following.cancel()


async def test_a_follower_without_states_gets_the_same_positions() -> None:
    feed, follower = _feed(), Follower()
    feed.publish(0, [Learned("s", 1, b"state"), Joined(())])
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0, states=False))
    await eventually(lambda: bool(follower.told))
    changes = (Learned("s", 1, b""), Joined(()))
    assert follower.told == [Changes(request=7, position=2, changes=changes)]
    following.cancel()


async def test_a_follower_with_missing_changes_gets_them_and_no_empty_page() -> None:
    feed, follower = _feed(), Follower()
    feed.publish(0, [_change(1)])
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0))
    await eventually(lambda: bool(follower.told))
    await asyncio.sleep(0)
    assert follower.told == [Changes(request=7, position=1, changes=(_change(1),))]
    following.cancel()


async def _followed_and_left(feed: Feed) -> weakref.ref[Follower]:
    follower = Follower()
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0))
    await eventually(lambda: bool(follower.told))
    following.cancel()
    await asyncio.wait({following})
    return weakref.ref(follower)


async def test_a_follower_whose_link_ended_is_held_by_nothing() -> None:
    feed = _feed()
    follower = await _followed_and_left(feed)
    gc.collect()
    assert follower() is None


class _Counting(MemoryStore):
    """A store that counts how often the feed is read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    async def feed(self, after: int, limit: int, *, states: bool = True) -> FeedPage:
        self.reads.append(f"feed {after}")
        return await super().feed(after, limit, states=states)

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        self.reads.append(f"changes {after} {limit}")
        return await super().changes(after, limit)


@asynccontextmanager
async def _followed(store: MemoryStore, count: int) -> AsyncIterator[tuple[Feed, list[Follower]]]:
    """Yield a running feed and followers that have received their first page."""
    feed, followers = Feed(store, memory=8), [Follower() for _ in range(count)]
    tasks = [asyncio.create_task(feed.run())] + [
        asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0)) for follower in followers
    ]
    await eventually(lambda: all(follower.told for follower in followers))
    try:
        yield feed, followers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_what_another_sync_commits_is_read_once_for_all_followers() -> None:
    store = _Counting()
    async with _followed(store, 5) as (feed, followers):
        for _ in range(3):
            store.publish([Joined(())])
            feed.heard(store.head)
            await eventually(
                lambda: all(follower.told[-1].position == store.head for follower in followers)
            )
    assert store.reads == ["changes 0 1", "changes 1 1", "changes 2 1"]


async def test_a_position_that_is_not_there_is_looked_for_once_and_forgotten() -> None:
    store = _Counting()
    async with _followed(store, 1) as (feed, _):
        feed.heard(5)
        await eventually(lambda: store.reads == ["changes 0 5"])
        store.publish([Joined(())])
        feed.heard(1)
        await eventually(lambda: feed.position == 1)
    assert store.reads == ["changes 0 5", "changes 0 1"]


async def test_a_database_that_was_set_back_takes_the_feed_back_with_it() -> None:
    store = _Counting()
    store.publish([Joined(())] * 5)
    feed = Feed(store, memory=8)
    await feed.begin()
    store.head = 3
    await feed.begin()
    assert feed.position == 3


async def test_a_change_of_a_newer_kind_is_left_out_and_its_position_is_reached() -> None:
    feed, follower = _feed(), Follower()
    feed.publish(0, [Skipped("Split"), _change(2), Skipped("Split")])
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0))
    await eventually(lambda: bool(follower.told))
    assert follower.told == [Changes(request=7, position=3, changes=(_change(2),))]
    following.cancel()
