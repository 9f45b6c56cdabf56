"""`Recent` keeps the end of the feed in memory without gaps, for any order of notifications."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.protocol.frames import Change, Learned
from midstreamer.store.store_interface import FeedPage
from midstreamer.sync import recent_changes
from midstreamer.sync.recent_changes import Recent


def a_change(position: int) -> Change:
    return Learned(f"s{position}", position, b"")


def changes(after: int, upto: int) -> list[Change]:
    return [a_change(position) for position in range(after + 1, upto + 1)]


def test_what_lies_between_our_commits_is_missing_and_nothing_else() -> None:
    memory = Recent(64)
    memory.publish(0, changes(0, 3))
    memory.publish(5, changes(5, 7))
    assert (memory.position, memory.missing()) == (3, 2)
    memory.publish(3, changes(3, 5))
    assert (memory.position, memory.missing()) == (7, 0)
    assert memory.page(0) == FeedPage(tuple(changes(0, 7)), 7)


def test_a_commit_of_somebody_else_drops_nothing_from_memory() -> None:
    memory = Recent(64)
    memory.publish(0, changes(0, 3))
    memory.heard(5)
    assert memory.missing() == 2
    memory.publish(3, changes(3, 5))
    assert memory.page(1) == FeedPage(tuple(changes(1, 5)), 5)


def test_what_was_read_and_published_twice_is_told_once() -> None:
    memory = Recent(64)
    memory.publish(0, changes(0, 4))
    memory.publish(2, changes(2, 6))
    assert memory.page(0) == FeedPage(tuple(changes(0, 6)), 6)


def test_a_position_that_nobody_committed_is_forgotten() -> None:
    memory = Recent(64)
    memory.heard(10**15)
    assert memory.missing() == 10**15
    memory.nothing_more()
    assert memory.missing() == 0


def test_commits_beyond_a_gap_are_bounded() -> None:
    memory = Recent(64)
    for at in range(recent_changes.EARLY_MAX + 2):
        memory.publish(10 + at, changes(10 + at, 11 + at))
    assert len(memory._early) <= recent_changes.EARLY_MAX
    assert memory.position == 0
    assert memory.missing() > 0


COMMITS = st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=30)
"""A list of commits in order: each says if this sync made it, and its number of changes."""


@given(COMMITS, st.randoms(use_true_random=False))
def test_two_writers_in_any_order_of_hearing_skip_and_repeat_nothing(
    commits: list[tuple[bool, int]], dice: object
) -> None:
    memory, events, head = Recent(8), [], 0
    followed: list[Change] = []
    for ours, count in commits:
        events.append((ours, head, head + count))
        head += count
    dice.shuffle(events)  # type: ignore[attr-defined]
    for ours, before, after in events:
        memory.publish(before, changes(before, after)) if ours else memory.heard(after)
        followed += _follow(memory, len(followed), head)
        # `Feed.run` reads missing changes from the store like this; here it gets 3 at a time.
        while missing := memory.missing():
            at = memory.position
            memory.publish(at, changes(at, min(head, at + min(missing, 3))))
            followed += _follow(memory, len(followed), head)
    assert followed == changes(0, memory.position)
    assert memory.position == head


def _follow(memory: Recent, after: int, head: int) -> list[Change]:
    """Return the next changes for a follower: from memory, or from the store if not in memory."""
    page = memory.page(after)
    return changes(after, min(memory.position, head)) if page is None else list(page.changes)
