"""The change feed in memory: order, gaps, and frames of a bounded size."""

from __future__ import annotations

import asyncio
from typing import cast

from midstreamer.protocol import sizes
from midstreamer.protocol.frames import Change, Changes, Joined, Learned, Points, Skipped
from midstreamer.runtime.peer import Peer
from midstreamer.store.memory import MemoryStore
from midstreamer.store.ports import FeedPage
from midstreamer.sync import feed as feeds
from midstreamer.sync.feed import Feed, frames_of
from tests.support.fleet import eventually
from tests.support.store import a_column


def _feed() -> Feed:
    return Feed(MemoryStore(), memory=8)


def _change(version: int) -> Change:
    return Learned("s", version, b"")


def test_commits_told_out_of_order_come_in_order() -> None:
    feed = _feed()
    feed.publish(1, [_change(2)])
    assert feed.position == 0
    feed.publish(0, [_change(1)])
    assert feed.position == 2
    assert feed._remembered(1) == FeedPage((_change(2),), 2)


def test_what_memory_does_not_reach_is_left_to_the_store() -> None:
    feed = _feed()
    for at in range(20):
        feed.publish(at, [_change(at + 1)])
    assert feed._remembered(11) is None
    assert feed._remembered(12) is not None
    assert feed._remembered(21) is None


def test_memory_is_bounded_in_bytes_as_well() -> None:
    made = Feed(MemoryStore(), memory=10**6)
    for at in range(100):
        made.publish(at, [Learned("s", at + 1, bytes(2**20))])
    assert sum(sizes.change_bytes(change) for change in made._newest) <= feeds.MEMORY_BYTES
    assert made._remembered(99) == FeedPage((Learned("s", 100, bytes(2**20)),), 100)
    assert made._remembered(0) is None


def test_a_commit_of_somebody_else_makes_a_fresh_start() -> None:
    feed = _feed()
    feed.publish(0, [_change(1)])
    feed.publish(5, [_change(6)])
    feed.noticed(5)
    assert feed.position == 6
    assert feed._remembered(1) is None
    assert feed._remembered(5) == FeedPage((_change(6),), 6)


def test_a_large_page_is_cut_and_only_its_end_has_its_position() -> None:
    changes = tuple(Points(at, a_column(0, 40_000)) for at in range(4))
    cut = list(frames_of(FeedPage(changes, 9), 1, 5))
    assert [frame.position for frame in cut] == [5, 5, 5, 9]
    assert tuple(change for frame in cut for change in frame.changes) == changes


def test_an_empty_page_still_tells_its_position() -> None:
    (only,) = frames_of(FeedPage((Joined(()),), 3), 1, 0)
    assert (only.position, only.changes) == (3, (Joined(()),))


class Follower:
    """Stands where the follower's connection would."""

    def __init__(self) -> None:
        self.told: list[Changes] = []
        self.capabilities: frozenset[str] = frozenset()

    async def drained(self) -> None:
        """There is always room."""

    def tell(self, frame: Changes) -> None:
        self.told.append(frame)


async def test_who_has_heard_everything_is_told_so_at_once() -> None:
    feed, follower = _feed(), Follower()
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0))
    await eventually(lambda: bool(follower.told))
    assert follower.told == [Changes(request=7, position=0, changes=())]

    feed.publish(0, [_change(1)])
    await eventually(lambda: len(follower.told) > 1)
    assert follower.told[1:] == [Changes(request=7, position=1, changes=(_change(1),))]
    following.cancel()


async def test_who_wants_no_states_hears_of_them_at_the_same_positions() -> None:
    feed, follower = _feed(), Follower()
    feed.publish(0, [Learned("s", 1, b"state"), Joined(())])
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0, states=False))
    await eventually(lambda: bool(follower.told))
    changes = (Learned("s", 1, b""), Joined(()))
    assert follower.told == [Changes(request=7, position=2, changes=changes)]
    following.cancel()


async def test_who_has_something_to_hear_is_told_that_and_nothing_else() -> None:
    feed, follower = _feed(), Follower()
    feed.publish(0, [_change(1)])
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0))
    await eventually(lambda: bool(follower.told))
    await asyncio.sleep(0)
    assert follower.told == [Changes(request=7, position=1, changes=(_change(1),))]
    following.cancel()


async def test_a_change_of_a_newer_kind_is_left_out_and_its_position_is_reached() -> None:
    feed, follower = _feed(), Follower()
    feed.publish(0, [Skipped("Split"), _change(2), Skipped("Split")])
    following = asyncio.create_task(feed.follow(cast(Peer, follower), 7, 0))
    await eventually(lambda: bool(follower.told))
    assert follower.told == [Changes(request=7, position=3, changes=(_change(2),))]
    following.cancel()
