"""The times at which a load test's requests are due."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.start_times import Spacing, Stage, arrivals, length_s, rate_at, steady
from midstreamer.domain.errors import BadInput

RATES = st.floats(0, 200)
STAGES = st.builds(Stage, st.floats(0.01, 20), RATES, RATES)


@given(STAGES, st.floats(0, 1))
def test_a_stage_has_begun_as_many_requests_as_its_rate_says(stage: Stage, part: float) -> None:
    wanted = part * stage.requests
    at = stage.when(wanted)
    slope = (stage.end - stage.begin) / stage.seconds
    assert 0 <= at <= stage.seconds
    assert stage.begin * at + slope * at * at / 2 == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@given(st.lists(STAGES, min_size=1, max_size=4), st.integers(0, 9))
def test_moments_are_in_order_within_the_stages_and_the_same_for_one_seed(
    stages: list[Stage], seed: int
) -> None:
    first = list(arrivals(stages, seed=seed))
    assert first == list(arrivals(stages, seed=seed))
    assert first == sorted(first)
    assert all(0 <= each <= length_s(stages) + 1e-9 for each in first)


def test_constant_requests_follow_each_other_at_one_distance() -> None:
    moments = list(arrivals([steady(2.0, 5)], seed=1, spacing=Spacing.CONSTANT))
    assert moments == pytest.approx([0.2 * number for number in range(1, 11)])


def test_as_many_come_as_the_rate_says() -> None:
    count = len(list(arrivals([Stage(50, 0, 200), steady(50, 200)], seed=3)))
    assert abs(count - 15_000) < 5 * math.sqrt(15_000)


def test_two_generators_make_the_rate_of_one() -> None:
    halves = [len(list(arrivals([steady(100, 100)], seed=each, share=0.5))) for each in (1, 2)]
    assert abs(sum(halves) - 10_000) < 5 * math.sqrt(10_000)


def test_nothing_is_due_while_the_rate_is_zero() -> None:
    moments = list(arrivals([steady(1, 50), steady(5, 0), steady(1, 50)], seed=1))
    assert not [each for each in moments if 1 < each < 6]
    assert [each for each in moments if each >= 6]


def test_the_rate_at_a_moment_is_that_of_its_stage() -> None:
    stages = [Stage(10, 0, 100), steady(10, 100)]
    assert [rate_at(stages, each) for each in (0, 5, 12, 21)] == [0, 50, 100, 0]


@pytest.mark.parametrize(
    ("seconds", "begin", "end"), [(0, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, 1e9), (math.nan, 1, 1)]
)
def test_a_stage_that_makes_no_sense_is_refused(seconds: float, begin: float, end: float) -> None:
    with pytest.raises(BadInput):
        Stage(seconds, begin, end)
