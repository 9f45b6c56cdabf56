"""Log lines that a peer can cause are rate-limited; suppressed lines are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.telemetry.log_throttle import Throttle


def test_a_burst_is_written_and_the_next_line_counts_the_suppressed() -> None:
    throttle = Throttle(burst=3, per_s=1.0)
    assert [throttle.admit("a", 10.0) for _ in range(8)] == [0, 0, 0, None, None, None, None, None]
    assert throttle.admit("a", 11.0) == 5
    assert throttle.admit("a", 11.0) is None


def test_events_do_not_take_each_others_place() -> None:
    throttle = Throttle(burst=1, per_s=1.0)
    assert [throttle.admit(name, 0.0) for name in ("a", "a", "b")] == [0, None, 0]


@given(st.lists(st.floats(0, 10), max_size=200))
def test_every_line_is_written_or_counted(pauses_s: list[float]) -> None:
    throttle, now_s, written, counted = Throttle(burst=5, per_s=0.5), 0.0, 0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        admitted = throttle.admit("a", now_s)
        written, counted = written + (admitted is not None), counted + (admitted or 0)
    assert written <= 5 + 0.5 * now_s
    still = throttle.admit("a", now_s + 1000)
    assert written + counted + (still or 0) == len(pauses_s)
