"""`FeedLag`: for how long a process has been behind the newest feed position that it knows of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.runtime.feed_lag import MARKS_MAX, FeedLag


def following(now_s: float = 0.0) -> FeedLag:
    lag = FeedLag(now_s)
    lag.follows()
    return lag


def test_a_process_that_reached_all_known_positions_has_no_lag() -> None:
    lag = following()
    lag.heard(7, 1.0)
    lag.reached(7)
    assert lag.lag_s(100.0) == 0.0


def test_the_lag_is_the_age_of_the_oldest_position_that_was_not_reached() -> None:
    lag = following()
    for position, heard_s in ((5, 1.0), (6, 2.0), (9, 4.0)):
        lag.heard(position, heard_s)
    assert lag.lag_s(10.0) == 9.0
    lag.reached(8)
    assert lag.lag_s(10.0) == 6.0


def test_a_position_reached_before_its_notification_is_no_lag() -> None:
    lag = following()
    lag.reached(9)
    lag.heard(9, 1.0)
    assert lag.lag_s(50.0) == 0.0


def test_a_process_that_left_the_feed_lags_since_it_left_first() -> None:
    lag = following()
    lag.left(3.0)
    lag.left(8.0)
    assert lag.lag_s(10.0) == 7.0
    lag.follows()
    assert lag.lag_s(10.0) == 0.0


def test_a_process_that_never_followed_is_behind_since_its_start() -> None:
    assert FeedLag(2.0).lag_s(5.0) == 3.0


def test_positions_of_a_former_database_are_forgotten() -> None:
    lag = following()
    lag.reached(5)
    lag.heard(90, 1.0)
    lag.forget(3)
    lag.heard(4, 8.0)
    assert lag.lag_s(10.0) == 2.0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=60))
def test_the_lag_equals_that_of_an_unbounded_list(
    events: list[tuple[bool, int]],
) -> None:
    lag, reached = following(), -1
    heard: dict[int, float] = {}
    for now, (is_heard, position) in enumerate(events):
        if is_heard:
            if position > max([reached, *heard]):
                heard[position] = float(now)
                lag.heard(position, float(now))
            else:
                lag.heard(position, float(now))
        else:
            reached = max(reached, position)
            heard = {at: when for at, when in heard.items() if at > reached}
            lag.reached(reached)
        assert lag.lag_s(1000.0) == 1000.0 - min(heard.values(), default=1000.0)


def test_known_positions_take_bounded_memory_and_the_oldest_counts() -> None:
    lag = following()
    for position in range(3 * MARKS_MAX):
        lag.heard(position, float(position))
    assert len(lag._marks) == MARKS_MAX
    assert lag.lag_s(4000.0) == 4000.0
