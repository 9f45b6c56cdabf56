"""The change feed in memory: order, gaps, and frames of a bounded size."""

from __future__ import annotations

from midstreamer.protocol.frames import Change, Joined, Learned, Points
from midstreamer.store.memory import MemoryStore
from midstreamer.store.ports import FeedPage
from midstreamer.sync.feed import Feed, frames_of
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
