"""`Renewal`: when a certificate is requested, and the pauses between failed requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.security.renewal import PAUSE_MOST_S, Renewal

DAY_S = 86_400.0
NOW_S = 1_800_000_000.0
MIDDLE = 0.5
dices = st.floats(0.0, 1.0)


def held(life_s: float, dice: float = MIDDLE) -> Renewal:
    renewal = Renewal()
    renewal.obtained(NOW_S + life_s, NOW_S, dice)
    return renewal


def pauses(renewal: Renewal, now_s: float, count: int, dice: float = 1.0) -> list[float]:
    """Return the pause in seconds after each of `count` failed requests.

    Each request is made, and fails, as soon as the certificate may be requested again.
    """
    found = []
    for _ in range(count):
        renewal.failed("away", now_s, dice)
        found.append(renewal.wait_s(now_s))
        now_s += found[-1]
    return found


def test_the_first_is_asked_for_at_once() -> None:
    assert Renewal().wait_s(NOW_S) == 0.0


@pytest.mark.parametrize(
    ("life_s", "dice", "after_s"),
    [
        (90 * DAY_S, 0.5, 60 * DAY_S),
        (90 * DAY_S, 0.0, 54 * DAY_S),
        (90 * DAY_S, 1.0, 66 * DAY_S),
        (6.0, 0.5, 4.0),
        (0.3, 0.5, 1.0),
        (-5.0, 0.5, 1.0),
    ],
)
def test_a_certificate_is_renewed_at_two_thirds_of_its_life_give_or_take_a_tenth(
    life_s: float, dice: float, after_s: float
) -> None:
    renewal = held(life_s, dice)
    assert renewal.wait_s(NOW_S) == pytest.approx(after_s)
    assert renewal.wait_s(NOW_S + after_s + 0.001) == 0.0


def test_pauses_double_up_to_five_minutes() -> None:
    assert pauses(Renewal(), NOW_S, 11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_pauses_are_at_most_a_tenth_of_what_is_left() -> None:
    assert pauses(held(100.0), NOW_S + 60.0, 4) == [
        1.0,
        2.0,
        pytest.approx(3.7),
        pytest.approx(3.33),
    ]


def test_pauses_of_a_certificate_that_has_expired_go_up_to_five_minutes_again() -> None:
    assert max(pauses(held(100.0), NOW_S + 101.0, 12)) == PAUSE_MOST_S


@given(st.floats(-10.0, 400 * DAY_S), st.floats(0.0, 400 * DAY_S), st.integers(1, 40), dices)
def test_a_pause_is_never_shorter_than_half_a_second_nor_longer_than_five_minutes(
    life_s: float, later_s: float, failures: int, dice: float
) -> None:
    found = pauses(held(life_s), NOW_S + later_s, failures, dice)
    assert all(0.49 <= each <= PAUSE_MOST_S + 0.01 for each in found)


@given(st.floats(60.0, 400 * DAY_S), dices, dices)
def test_while_an_issuer_is_away_it_is_asked_several_times_before_the_certificate_expires(
    life_s: float, first: float, dice: float
) -> None:
    renewal = held(life_s, first)
    now_s, asked = NOW_S + renewal.wait_s(NOW_S), 0
    while now_s < NOW_S + life_s and asked < 50:
        renewal.failed("away", now_s, dice)
        now_s, asked = now_s + renewal.wait_s(now_s), asked + 1
    assert asked >= 5


def test_a_certificate_begins_the_pauses_anew() -> None:
    renewal = Renewal()
    pauses(renewal, NOW_S, 8)
    renewal.obtained(NOW_S + DAY_S, NOW_S, MIDDLE)
    assert pauses(renewal, NOW_S, 1) == [1.0]


def test_a_clock_that_was_set_back_has_it_asked_at_once() -> None:
    assert held(90 * DAY_S).wait_s(NOW_S - 1.0) == 0.0


def test_a_complaint_names_the_reason_and_the_end_of_the_old_certificate() -> None:
    renewal = Renewal()
    assert renewal.complaint(NOW_S) == ""
    renewal.failed("it is shut", NOW_S, MIDDLE)
    assert renewal.complaint(NOW_S) == "no certificate yet: it is shut"
    renewal.obtained(NOW_S + 60.0, NOW_S, MIDDLE)
    assert renewal.complaint(NOW_S) == ""
    renewal.failed("it is shut", NOW_S + 40.0, MIDDLE)
    ends = "2027-01-15 08:01:00 UTC"
    assert renewal.complaint(NOW_S + 40.0) == (
        f"no new certificate: it is shut; the present one is in force until {ends}"
    )
    assert renewal.complaint(NOW_S + 61.0) == (
        f"no new certificate: it is shut; the present one expired on {ends}"
    )


def test_a_certificate_that_expired_is_reported_too() -> None:
    renewal = held(60.0)
    assert "a request is under way; the present one expired on" in renewal.complaint(NOW_S + 61.0)
