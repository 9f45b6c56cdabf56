"""The simple forecasts used as baselines: each follows its rule and uses no future value."""

import numpy as np
import pytest

from midstreamer.market import baselines
from midstreamer.market.backtest import Memory, Points
from midstreamer.market.baselines import Cases
from tests.support import reasoning_builders as make

SPECIFICATION = make.a_specification(window=24, horizon=4, neighbours=10, grid=1, band=2)
POINTS = make.a_season(1200)


def cases_of(points: Points = POINTS, start: int = 600, stop: int = 1100) -> Cases:
    index = np.arange(start, stop)
    return Cases(
        memory=Memory({"u/a": points}, SPECIFICATION),
        row=np.zeros(len(index), dtype=np.int64),
        index=index,
        time=points.times[index],
        scale=np.ones(len(index)),
        base=np.full(len(index), 0.52),
    )


def hits(rival: baselines.Rival) -> float:
    index = np.arange(600, 1100)
    change = POINTS.values[index + 4] - POINTS.values[index]
    return float((np.sign(rival.lean) == np.sign(change)).mean())


def test_the_majority_always_takes_one_side() -> None:
    rival = baselines.majority(cases_of())
    assert (rival.lean > 0).all()
    assert rival.probability is not None
    assert set(rival.probability) == {0.52}


def test_momentum_takes_the_side_of_the_window() -> None:
    rival = baselines.momentum(cases_of(start=600, stop=601))
    assert rival.lean[0] == POINTS.values[600] - POINTS.values[577]


def test_a_season_repeats_what_followed_the_same_moment() -> None:
    rival = baselines.season(cases_of(), 24)
    assert rival.lean[0] == pytest.approx(POINTS.values[580] - POINTS.values[600])
    assert hits(rival) > 0.9


def test_the_seasonal_baseline_says_nothing_before_its_first_season() -> None:
    rival = baselines.season(cases_of(start=100, stop=200), 168)
    assert np.isnan(rival.lean).any()
    assert np.isfinite(rival.lean[-1])


def test_euclid_and_ridge_foretell_a_season() -> None:
    vote, margin = baselines.euclid(cases_of())
    line = baselines.ridge(cases_of(), (24,))
    assert min(hits(vote), hits(margin), hits(line)) > 0.9
    for rival in (vote, margin, line):
        assert rival.probability is not None
        assert ((rival.probability >= 0.0) & (rival.probability <= 1.0)).all()


def test_no_rival_sees_the_future() -> None:
    values = POINTS.values.copy()
    values[801:] = np.random.default_rng(9).standard_normal(len(values) - 801) * 40.0
    changed = cases_of(Points(POINTS.times, values))
    before = slice(0, 201)
    pairs = zip(baselines.all_of(cases_of(), (24,)), baselines.all_of(changed, (24,)), strict=True)
    for rival, other in pairs:
        assert np.array_equal(rival.lean[before], other.lean[before]), rival.name
    assert not np.array_equal(rival.lean[250:], other.lean[250:])


def test_the_ridge_baseline_says_nothing_until_it_has_outcomes() -> None:
    rival = baselines.ridge(cases_of(start=100, stop=110))
    assert np.isnan(rival.lean).all()
    assert rival.probability is not None
    assert set(rival.probability) == {0.52}
