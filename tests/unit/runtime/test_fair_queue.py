"""`FairQueue`: identities take turns; the order within an identity and a series is kept."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.runtime.fair_queue import FairQueue

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "c")),
        st.integers(0, 5),
        st.sets(st.sampled_from(("x", "y", "z")), max_size=2),
    ),
    max_size=30,
)
Entries = list[tuple[str, int, set[str]]]


def a_queue(entries: Entries) -> FairQueue:
    queue = FairQueue()
    for key, (identity, cost, tracks) in enumerate(entries):
        queue.push(key, identity, cost=cost, tracks=tracks)
    return queue


def drained(queue: FairQueue) -> list[int]:
    served = []
    while queue.peek() is not None:
        served.append(queue.pop())
    return served


def in_order(served: list[int], entries: Entries) -> bool:
    """Return whether entries of one identity, or of one track (series), were served in order."""
    groups: dict[object, list[int]] = {}
    for key in served:
        identity, _, tracks = entries[key]
        for group in (("identity", identity), *(("track", track) for track in tracks)):
            groups.setdefault(group, []).append(key)
    return all(before < after for keys in groups.values() for before, after in pairwise(keys))


@given(ENTRIES)
def test_everything_is_served_once_and_in_order(entries: Entries) -> None:
    served = drained(a_queue(entries))
    assert sorted(served) == list(range(len(entries)))
    assert in_order(served, entries)


@given(ENTRIES, st.integers(0, 30), st.sets(st.integers(0, 29)))
def test_order_is_kept_when_some_come_back_and_some_are_dropped(
    entries: Entries, taken: int, dropped: set[int]
) -> None:
    queue = a_queue(entries)
    first = [queue.pop() for _ in range(min(taken, len(entries)))]
    for key in reversed(first):
        identity, cost, tracks = entries[key]
        queue.put_back(key, identity, cost=cost, tracks=tracks)
    queue.discard(dropped)
    served = drained(queue)
    assert sorted(served) == [key for key in range(len(entries)) if key not in dropped]
    assert in_order(served, entries)


@given(st.lists(st.sampled_from(("a", "b", "c")), min_size=1, max_size=60))
def test_no_identity_is_ahead_by_more_than_one_entry(identities: list[str]) -> None:
    entries: Entries = [(identity, 1, set()) for identity in identities]
    queue, left = a_queue(entries), list(range(len(entries)))
    counts = dict.fromkeys(identities, 0)
    while left:
        key = queue.pop()
        left.remove(key)
        counts[identities[key]] += 1
        waiting = {identities[other] for other in left}
        assert all(counts[identities[key]] <= counts[other] + 1 for other in waiting)


def test_a_newcomer_is_served_after_one_entry_however_long_the_queue() -> None:
    queue = FairQueue()
    for key in range(1000):
        queue.push(key, "greedy", cost=100, tracks=("x",))
    assert queue.pop() == 0
    queue.push(1000, "good", cost=1, tracks=("y",))
    assert [queue.pop(), queue.pop()] in ([1, 1000], [1000, 1])


def test_a_later_tick_of_a_series_overtakes_no_earlier_one() -> None:
    queue = FairQueue()
    queue.push(1, "greedy", cost=9, tracks=("other",))
    queue.push(2, "greedy", cost=9, tracks=("shared",))
    queue.push(3, "good", cost=1, tracks=("shared",))
    queue.push(4, "good", cost=1, tracks=("mine",))
    assert drained(queue) == [1, 2, 3, 4]


def test_an_identity_saves_up_no_turns_while_it_is_away() -> None:
    queue = FairQueue()
    for key in range(10):
        queue.push(key, "a", cost=1)
    for _ in range(5):
        queue.pop()
    for key in range(10, 20):
        queue.push(key, "b", cost=1)
    served = [queue.pop() for _ in range(8)]
    assert sum(key >= 10 for key in served) in (4, 5)
