"""The arms, the interval and the margin of a forecast, computed from the analogs' outcomes."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from midstreamer.reasoning import forecast
from tests.support import reasoning_builders as make

outcomes = arrays.arrays(np.float64, st.integers(1, 120), elements=st.floats(-1e6, 1e6))


@given(outcomes=outcomes, coverage=st.floats(0.5, 0.99))
def test_the_interval_is_the_quantiles_numpy_knows(outcomes: np.ndarray, coverage: float) -> None:
    tail = (1.0 - coverage) / 2.0
    expected = np.quantile(outcomes, [tail, 0.5, 1.0 - tail])
    assert forecast.interval(outcomes, coverage) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(outcomes=outcomes, base=st.floats(0.01, 0.99), slope=st.floats(0.0, 2.0))
def test_every_arm_is_a_probability(outcomes: np.ndarray, base: float, slope: float) -> None:
    arms = forecast.arms(outcomes, base, slope)
    assert len(arms) == len(forecast.ARMS)
    assert all(0.0 <= arm <= 1.0 for arm in arms)


@given(outcomes=outcomes, factor=st.floats(0.01, 100.0))
def test_the_margin_does_not_know_the_unit(outcomes: np.ndarray, factor: float) -> None:
    # Outcomes below 1e-140 are left out: their squares are denormal and keep few digits.
    assume(not np.any((outcomes != 0.0) & (np.abs(outcomes) < 1e-140)))
    assert forecast.margin(outcomes * factor) == pytest.approx(
        forecast.margin(outcomes), rel=1e-6, abs=1e-6
    )


def test_the_vote_is_drawn_towards_climatology_by_ten_analogs() -> None:
    outcomes = np.array([1.0] * 30 + [-1.0] * 10 + [0.0] * 7)
    assert forecast.vote(outcomes, 0.6) == pytest.approx((30 + 6) / 50)


def test_the_slope_stretches_or_shrinks_the_vote() -> None:
    outcomes = np.array([1.0] * 10)
    arms = [dict(zip(forecast.ARMS, forecast.arms(outcomes, 0.5, s), strict=True)) for s in (0, 1)]
    assert arms[0]["calibrated"] == 0.5
    assert arms[1]["calibrated"] == arms[1]["vote"] == 0.75


def test_the_margin_tells_wide_agreement_from_narrow() -> None:
    narrow, wide = np.linspace(0.1, 3.0, 20), np.linspace(2.0, 2.5, 20)
    assert 0.5 < forecast.margin(narrow) < forecast.margin(wide) < 1.0
    assert forecast.margin(np.zeros(5)) == 0.5
    assert forecast.margin(np.full(5, -1.0)) < 0.01


def test_without_analogs_every_arm_is_climatology() -> None:
    assert set(forecast.arms(np.empty(0), 0.53, 1.0)) == {0.53}
    assert forecast.interval(np.empty(0), 0.9) == (-np.inf, 0.0, np.inf)


def test_climatology_is_the_share_of_rises_off_certainty() -> None:
    assert forecast.climatology(make.evidence_of([1.0])) == pytest.approx(51 / 102)
