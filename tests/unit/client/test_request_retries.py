"""The client's decisions: when to retry, which coordinator to ask, and how much to send."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer import reasoning
from midstreamer.client import request_retries
from midstreamer.coordinator.stored_items import Item
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import (
    BadInput,
    Behind,
    Conflict,
    DeadlineExceeded,
    LinkClosed,
    MidstreamerError,
    Overloaded,
    Refused,
)
from midstreamer.domain.match import Match, from_rows
from midstreamer.domain.series import Column, column, window
from midstreamer.domain.specification import Specification
from midstreamer.protocol import codec, frames

TWO = ("c1:1", "c2:1")


class _Call(request_retries.Call):
    """A call for tests: by default, each of its addresses has an open link.

    A test can pass ``ready`` instead: the list of the addresses that have an open link.
    """

    def begin(
        self, now_s: float, ready: Sequence[str] | None = None
    ) -> request_retries.Try | request_retries.GiveUp:
        return super().begin(now_s, self.addresses if ready is None else ready)

    def failed(
        self, error: MidstreamerError, now_s: float, dice: float, ready: Sequence[str] | None = None
    ) -> request_retries.Wait | request_retries.GiveUp:
        return super().failed(error, now_s, dice, self.addresses if ready is None else ready)


def a_call(*addresses: str, deadline_s: float = 100.0) -> _Call:
    return _Call(
        "match", request_retries.Policy(), addresses or TWO, started_s=0.0, deadline_s=deadline_s
    )


def failing(
    call: _Call, *errors: MidstreamerError
) -> request_retries.Wait | request_retries.GiveUp:
    """Report these failures to a call, one after another; return the call's last decision."""
    then: request_retries.Wait | request_retries.GiveUp = request_retries.Wait(0.0)
    for error in errors:
        call.begin(0.0)
        then = call.failed(error, 0.0, 0.5)
    return then


def test_another_coordinator_is_asked_before_anybody_waits() -> None:
    call = a_call()
    assert call.begin(0.0, ["c2:1", "c1:1"]) == request_retries.Try("c2:1", 10.0)
    assert call.failed(Overloaded("full"), 0.1, 0.5) == request_retries.Wait(0.0)
    assert call.begin(0.1, ["c2:1", "c1:1"]) == request_retries.Try("c1:1", 10.0)


def test_one_without_a_link_is_not_waited_for_while_another_has_one() -> None:
    call = a_call()
    assert call.begin(0.0, ["c2:1"]) == request_retries.Try("c2:1", 10.0)
    assert call.begin(0.0, []) == request_retries.Try("", 10.0)


def test_when_the_only_link_ends_the_first_reachable_coordinator_is_asked() -> None:
    call = a_call()
    call.begin(0.0, ["c1:1"])
    assert isinstance(call.failed(LinkClosed("gone"), 0.0, 0.5, []), request_retries.Wait)
    assert call.begin(0.1, []) == request_retries.Try("", 10.0)


def test_a_link_that_ended_sends_the_request_to_another_at_once() -> None:
    call = a_call()
    call.begin(0.0)
    assert call.failed(LinkClosed("gone"), 0.0, 0.5, ["c2:1"]) == request_retries.Wait(0.0)


def test_after_a_round_of_all_coordinators_the_client_waits() -> None:
    then = failing(a_call(), Overloaded("full"), Overloaded("full"))
    assert isinstance(then, request_retries.Wait)
    assert then.delay_s > 0.0


def test_the_client_waits_as_long_as_the_server_asks() -> None:
    assert failing(a_call("c1:1"), Overloaded("full", retry_after_s=7.0)) == request_retries.Wait(
        7.0
    )


def test_a_call_that_all_refuse_gives_up_without_waiting() -> None:
    call, refusal = a_call(), Refused("not on the allowlist")
    assert failing(call, refusal) == request_retries.Wait(0.0)
    assert failing(call, refusal) == request_retries.GiveUp(refusal)


@pytest.mark.parametrize("error", [BadInput("no"), Conflict("no")])
def test_an_error_that_a_retry_cannot_fix_ends_the_call_at_once(error: MidstreamerError) -> None:
    assert a_call().failed(error, 0.0, 0.5) == request_retries.GiveUp(error)


def test_the_end_names_attempts_addresses_and_the_last_error() -> None:
    call = a_call(deadline_s=1.0)
    call.failed(Behind("at 3, asked for 5"), 0.2, 0.5)
    end = call.begin(1.5)
    assert isinstance(end, request_retries.GiveUp)
    assert isinstance(end.error, DeadlineExceeded)
    message = end.error.message
    assert "within 1.5 s after 1 attempts at c1:1, c2:1" in message
    assert "error[behind]: at 3, asked for 5" in message


def test_it_gives_up_rather_than_wait_past_the_deadline() -> None:
    call = a_call("c1:1", deadline_s=1.0)
    call.begin(0.5)
    assert isinstance(
        call.failed(Overloaded("", retry_after_s=5.0), 0.5, 0.5), request_retries.GiveUp
    )


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1, exclude_max=True)), max_size=60),
    st.floats(0.01, 60),
    st.integers(1, 4),
)
def test_no_attempt_and_no_wait_reaches_beyond_the_deadline(
    story: list[tuple[float, float]], deadline_s: float, endpoints: int
) -> None:
    call = a_call(*(f"c{each}:1" for each in range(endpoints)), deadline_s=deadline_s)
    now_s = 0.0
    for spent_s, dice in story:
        step = call.begin(now_s)
        if isinstance(step, request_retries.GiveUp):
            return
        assert 0 < step.budget_s <= min(request_retries.Policy().attempt_s, deadline_s - now_s)
        now_s += min(spent_s, step.budget_s)
        then = call.failed(DeadlineExceeded("slow"), now_s, dice)
        if isinstance(then, request_retries.GiveUp):
            return
        assert now_s + then.delay_s < deadline_s
        assert then.delay_s <= request_retries.Policy().backoff_most_s
        now_s += then.delay_s


@given(st.lists(st.integers(0, 2**60)))
def test_the_position_never_goes_back(answers: list[int]) -> None:
    position, before = request_retries.Position(), 0
    for answer in answers:
        position.seen(answer)
        assert position.highest == max(before, answer)
        before = position.highest


def _ticks(groups: list[tuple[Column, ...]], series: str) -> list[float]:
    return [
        value
        for group in groups
        for part in group
        if part.series == series
        for value in part.values_array().tolist()
    ]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=8),
    st.integers(1, 9),
    st.integers(1, 3),
)
def test_split_columns_keep_every_tick_in_order(
    shapes: list[tuple[str, int]], ticks: int, columns_max: int
) -> None:
    columns, at = [], 0
    for name, count in shapes:
        columns.append(column(f"u/{name}", range(at, at + count), np.arange(at, at + count) * 1.0))
        at += count
    groups = list(request_retries.split_columns(columns, ticks, columns_max))
    assert all(len(group) <= columns_max for group in groups)
    assert all(0 < sum(len(part) for part in group) <= ticks for group in groups)
    assert all(len({part.series for part in group}) == len(group) for group in groups)
    for name in "abc":
        assert _ticks(groups, f"u/{name}") == _ticks([tuple(columns)], f"u/{name}")


def test_many_series_are_split_into_appends_that_are_taken() -> None:
    columns = [column(f"u/{name}", [1], [1.0]) for name in range(2500)]
    groups = list(request_retries.split_columns(columns))
    assert [len(group) for group in groups] == [1024, 1024, 452]


def test_a_group_of_the_longest_windows_fits_a_frame() -> None:
    specification = Specification("u", window=4096, neighbours=1000)
    windows = [window(np.arange(4096.0), series=f"u/{each}", time=1) for each in range(256)]
    groups = list(request_retries.split_windows(specification, windows))
    assert sum(map(len, groups)) == 256
    codec.encode(frames.Match(specification=specification, windows=groups[0]))


def test_the_answer_to_a_group_fits_a_frame_whatever_the_names() -> None:
    specification = Specification("u", window=16, neighbours=1000)
    windows = [window(np.arange(1.0, 17.0), time=1) for _ in range(256)]
    count = len(next(request_retries.split_windows(specification, windows)))
    rows = [Match(f"u/{place:0126d}", 2**40, 2**60, 1.5, 0.5) for place in range(1000)]
    evidence = Evidence(specification, windows[0], from_rows(rows), index=10**6, kernel="numba")
    decision = reasoning.decide(evidence, reasoning.initial(specification))
    for answer in (
        frames.Found(findings=(evidence,) * count),
        frames.Matched(decisions=(decision,) * count),
        frames.Write(sequence=1, decisions=(decision,) * count),
    ):
        assert len(codec.encode(answer)) > frames.FRAME_BYTES_MAX // 2
    size = len(codec.encode(frames.Write(sequence=1, decisions=(decision,))))
    assert 0.9 * size < Item(decisions=(decision,)).size < 1.1 * size
    small = Specification("u", window=64, neighbours=64)
    assert len(next(request_retries.split_windows(small, windows * 2))) == frames.WINDOWS_MAX


def test_a_window_of_another_length_is_named() -> None:
    with pytest.raises(BadInput, match=r"u/a has 3 values, specification\.window is 8"):
        request_retries.check_windows(
            Specification("u", window=8), [window([1, 2, 3], series="u/a", time=1)]
        )


def test_a_window_of_another_universe_is_named() -> None:
    with pytest.raises(BadInput, match="v/a is not of universe 'u'"):
        request_retries.check_windows(
            Specification("u", window=4), [window([1, 2, 3, 4], series="v/a")]
        )


def test_a_receipt_adds_up_and_takes_the_weakest_level() -> None:
    answers = [
        frames.Appended(stored=2, position=7),
        frames.Appended(stored=1, repeated=3, position=5, level=frames.Level.RECEIVED),
    ]
    receipt = request_retries.receipt(answers, frames.Level.DURABLE)
    assert (receipt.stored, receipt.repeated, receipt.position) == (3, 3, 7)
    assert receipt.level is frames.Level.RECEIVED
