"""An agent reports each of its shards to a coordinator once, in frames of bounded size."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.agent import shard_reports
from midstreamer.agent.shard_reports import Telling
from midstreamer.coordinator.dispatch import Dispatch, Limits
from midstreamer.coordinator.dispatch_events import HangUp, Reported
from midstreamer.domain import shard as shards
from midstreamer.domain.shard import Shard
from midstreamer.protocol import codec
from midstreamer.protocol.frames import Holdings


def next_page(telling: Telling, held: set[Shard]) -> Holdings:
    return telling.page(1, 0, len(held), shards.digest(held))


def reported(page: Holdings) -> Reported:
    count = None if page.more else page.count
    return Reported("agent/a", 1, page.shards, 0, page.dropped, count, page.digest)


def test_any_number_of_shards_is_reported_in_small_frames() -> None:
    held = {Shard(f"u/{place:0126d}", place) for place in range(40_000)}
    telling, pages = Telling(held), list[Holdings]()
    while not pages or pages[-1].more:
        pages.append(next_page(telling, held))
    assert {shard for page in pages for shard in page.shards} == held
    assert max(len(codec.encode(page)) for page in pages) <= 1.1 * shard_reports.PAGE_BYTES
    # A report without changes is only a heartbeat, so it is small.
    assert len(codec.encode(next_page(telling, held))) < 200


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_a_coordinator_that_gets_every_page_knows_what_is_held(seed: int, steps: int) -> None:
    dice = random.Random(seed)
    held = {Shard("u/s", dice.randint(0, 9)) for _ in range(5)}
    telling, coordinator = Telling(held), Dispatch()
    for _ in range(steps):
        shard = Shard("u/s", dice.randint(0, 9))
        is_whole = shard not in held
        (held.add if is_whole else held.discard)(shard)
        telling.changed(shard, whole=is_whole)
        if dice.random() < 0.3:
            assert coordinator.handle(reported(next_page(telling, held)), 0.0) == []
            every = [Shard("u/s", number) for number in range(10)]
            assert {shard for shard in every if coordinator.held(shard)} == held


@given(st.integers(0, 2**32))
def test_a_coordinator_that_is_sent_away_knows_of_nothing_held(seed: int) -> None:
    dice = random.Random(seed)
    every = [Shard("u/s", number) for number in range(10)]
    held = set(every[:5])
    telling, coordinator = Telling(held), Dispatch()
    for _ in range(dice.randint(0, 2)):
        coordinator.handle(reported(next_page(telling, held)), 0.0)
        telling.changed(shard := dice.choice(every), whole=shard not in held)
        held ^= {shard}
    telling.end(held)
    for _ in range(2):  # after `Telling.end` no change of a shard is reported
        assert coordinator.handle(reported(next_page(telling, held)), 0.0) == []
        assert not any(map(coordinator.held, every))
        telling.changed(shard := dice.choice(every), whole=shard not in held)
        held ^= {shard}


def test_a_coordinator_that_missed_a_page_hangs_up_and_says_why() -> None:
    held = {Shard("u/s", number) for number in range(5)}
    telling, coordinator = Telling(held), Dispatch()
    next_page(telling, held)  # the coordinator never gets this page
    (effect,) = coordinator.handle(reported(next_page(telling, held)), 0.0)
    assert isinstance(effect, HangUp)
    assert "says it holds 5 shards" in effect.reason
    assert "this coordinator knows 0" in effect.reason


def test_a_coordinator_keeps_no_more_of_one_agent_than_it_may() -> None:
    coordinator = Dispatch(Limits(shards_max=3))
    pages = [Reported("agent/a", 1, (Shard("u/s", number),)) for number in range(4)]
    assert [coordinator.handle(page, 0.0) for page in pages[:3]] == [[], [], []]
    (many,) = coordinator.handle(pages[3], 0.0)
    (long,) = coordinator.handle(Reported("agent/b", 1, (Shard("n" * 129, 0),)), 0.0)
    assert isinstance(many, HangUp)
    assert isinstance(long, HangUp)
    assert "agent/a reports more than 3 shards" in many.reason
    assert "agent/b reports a series of more than 128 characters" in long.reason
