"""A shard has the same points and counts, whatever the sizes and the order of the parts it gets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.agent.derived_data_limit import Derived
from midstreamer.agent.shard_data import Held, reach
from midstreamer.domain import outcome
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import HORIZON_MAX, WINDOW_MAX, Scale, Transform
from tests.support.fleet import MINUTE, a_specification, a_walk

POINTS = 64
WALK = a_walk(400)
TIMES = np.arange(400, dtype=np.int64) * MINUTE


def a_shard(number: int = 1, upto: int = 400) -> Held:
    held = Held(Shard("walk/a", number), POINTS)
    assert held.append(held.first, TIMES[held.first : upto], WALK[held.first : upto])
    return held


@given(cuts=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 399)), max_size=12))
def test_overlapping_parts_in_any_order_leave_the_same_points(cuts: list[tuple[int, int]]) -> None:
    held = Held(Shard("walk/a", 1), POINTS)
    for start, stop in (sorted(cut) for cut in cuts):
        before = held.end
        joined = held.append(start, TIMES[start:stop], WALK[start:stop])
        assert joined is (start <= before)
    assert np.array_equal(held.values(), WALK[held.first : held.end])
    assert np.array_equal(held.times(), TIMES[held.first : held.end])


def test_points_before_the_shard_are_left_out() -> None:
    held = Held(Shard("walk/a", 1), POINTS)
    assert held.append(0, TIMES[:10], WALK[:10])
    assert held.end == POINTS


def test_a_shard_keeps_what_its_last_window_needs_to_be_settled_and_embargoed() -> None:
    shard = Shard("walk/a", 0)
    last_window = shard.last(POINTS) - 1
    assert reach(shard, POINTS) >= last_window + WINDOW_MAX + 2 * HORIZON_MAX


@given(steps=st.lists(st.integers(1, 90), min_size=1, max_size=8), grid=st.integers(1, 9))
def test_a_ledger_that_grows_says_what_one_made_at_once_says(steps: list[int], grid: int) -> None:
    specification = a_specification(grid=grid)
    held, at = Held(Shard("walk/a", 1), POINTS), POINTS
    for step in steps:
        held.append(at, TIMES[at : at + step], WALK[at : at + step])
        held.ledger(specification)
        at += step
    ledger = held.ledger(specification)
    for count in range(POINTS, held.end + 1, 7):
        until = outcome.known_until(count, specification.horizon)
        firsts = outcome.grid_firsts(held.first, until, specification)
        firsts = firsts[firsts < held.last]
        outcomes = outcome.outcomes(WALK[: held.end], firsts, specification)
        settled = ledger.settled(until)
        assert np.array_equal(settled.outcomes, outcomes)
        assert (settled.ups, settled.known) == outcome.tally(outcomes)


@pytest.mark.parametrize("scale", Scale)
def test_windows_without_a_scale_are_counted_apart(scale: Scale) -> None:
    held = Held(Shard("walk/a", 0), POINTS)
    held.append(0, TIMES[:200], np.where(np.arange(200) < 32, 5.0, WALK[:200]))
    settled = held.ledger(a_specification(scale=scale)).settled(200)
    assert settled.barred == int(np.count_nonzero(np.isnan(settled.outcomes))) > 0


def test_a_history_ends_where_the_last_own_window_ends() -> None:
    held = a_shard()
    history = held.history(Transform.IDENTITY, 16)
    assert (history.start, history.end) == (held.first, held.last + 15)


def test_a_history_follows_the_points() -> None:
    held = a_shard(upto=100)
    assert held.history(Transform.LOG, 16).end == 100
    held.append(100, TIMES[100:120], WALK[100:120])
    assert held.history(Transform.LOG, 16).end == 120


@pytest.mark.parametrize(
    ("transform", "value"),
    [
        (Transform.LOG, 0.0),
        (Transform.LOG, -3.0),
        (Transform.IDENTITY, 1e200),
        (Transform.IDENTITY, -1e300),
    ],
)
def test_windows_that_touch_a_value_that_cannot_be_compared_are_barred(
    transform: Transform, value: float
) -> None:
    held, specification = Held(Shard("walk/a", 0), 256), a_specification(transform=transform)
    held.append(0, TIMES[:200], np.where(np.arange(200) == 102, value, WALK[:200]))
    settled = held.ledger(specification).settled(200)
    barred = specification.grid * np.flatnonzero(np.isnan(settled.outcomes))
    # Window 84 ends before the bad value, but its outcome needs the value.
    assert barred.tolist() == [84, 88, 92, 96, 100]
    assert settled.barred == 5
    assert len(held.history(transform, 16)) == 200


def test_what_is_not_used_for_longest_is_dropped() -> None:
    held = a_shard()
    kept = held.ledger(a_specification(grid=1))
    for grid in range(2, 40):
        held.ledger(a_specification(grid=grid))
        if grid < 10:
            assert held.ledger(a_specification(grid=1)) is kept
    assert held.ledger(a_specification(grid=1)) is not kept


def test_all_shards_together_keep_a_bounded_number_of_derived_bytes() -> None:
    derived = Derived(bytes_max=40_000)
    several = [Held(Shard(f"walk/{name}", 0), POINTS, derived) for name in "abc"]
    alone = Held(Shard("walk/a", 0), POINTS)
    for held in (*several, alone):
        held.append(0, TIMES, WALK)
    for window in range(8, 40):
        for held in several:
            specification = a_specification(window=window, grid=1)
            ledger = held.ledger(specification)
            assert len(held.history(Transform.LOG, window)) == POINTS + window - 1
            expected = alone.ledger(specification).settled(10_000)
            assert np.array_equal(ledger.settled(10_000).outcomes, expected.outcomes)
            assert derived.size <= 40_000
    kept = sum(len(held._histories) + len(held._ledgers) for held in several)
    assert 5 < kept < 20


def test_a_dropped_shard_gives_its_derived_bytes_back() -> None:
    derived = Derived()
    held = Held(Shard("walk/a", 0), POINTS, derived)
    held.append(0, TIMES, WALK)
    for grid in range(1, 40):
        held.ledger(a_specification(grid=grid))
        held.history(Transform.LOG, 8 + grid)
    assert derived.size > 0
    held.release()
    assert derived.size == 0
