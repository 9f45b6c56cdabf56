"""An outcome is scaled by its own window; computed alone or with others, it has the same bits."""

import numpy as np
import pytest

from midstreamer.domain import outcome
from midstreamer.domain.errors import BadInput
from midstreamer.domain.specification import Scale, Specification, Transform
from midstreamer_kernels.series_checks import MAGNITUDE_MAX as MAGNITUDE_MAX_OF_KERNELS

WALK = np.random.default_rng(0).standard_normal(900).cumsum()


def a_specification(**fields: object) -> Specification:
    return Specification("u", **{"window": 24, "horizon": 4, "grid": 3} | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("window", [4, 17, 48, 130])
def test_one_window_and_many_give_the_same_bits(scale: Scale, window: int) -> None:
    spec = a_specification(window=window, scale=scale)
    firsts = outcome.grid_firsts(0, len(WALK) - 4, spec)
    together = outcome.outcomes(WALK, firsts, spec)
    for first, values in zip(firsts, together, strict=True):
        piece = WALK[first : first + window + 4]
        assert outcome.outcomes(piece, np.array([0]), spec)[0] == values
        assert values == (piece[-1] - piece[-5]) / outcome.scale_of(piece[:window], spec)


def test_a_scale_is_what_the_words_say() -> None:
    window = WALK[:24]
    deviation = outcome.scale_of(window, a_specification(scale=Scale.DEVIATION))
    volatility = outcome.scale_of(window, a_specification(scale=Scale.VOLATILITY))
    assert deviation == pytest.approx(window.std())
    assert volatility == pytest.approx(np.diff(window).std() * 2.0)


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("level", [0.0, 0.1, 1e9, -7.3])
def test_a_flat_window_has_no_scale_and_is_no_analog(scale: Scale, level: float) -> None:
    points = np.full(60, level)
    spec = a_specification(scale=scale)
    assert outcome.scale_of(points[:24], spec) == 0.0
    assert np.isnan(outcome.outcomes(points, np.array([0, 3]), spec)).all()


def test_the_grid_is_absolute_and_ends_where_the_outcome_is_not_yet_known() -> None:
    spec = a_specification()
    until = outcome.known_until(100, spec.horizon)
    firsts = outcome.grid_firsts(10, until, spec)
    assert firsts[0] == 12
    assert (firsts % spec.grid == 0).all()
    assert firsts[-1] + spec.window - 1 + 2 * spec.horizon <= 99
    assert firsts[-1] + spec.grid + spec.window - 1 + 2 * spec.horizon > 99
    assert not outcome.grid_firsts(0, 5, spec).size


def test_an_outcome_behind_the_end_is_unknown() -> None:
    outcomes = outcome.outcomes(WALK[:40], np.array([0, 12, 13]), a_specification())
    assert np.isfinite(outcomes).tolist() == [True, True, False]


def test_a_logarithm_without_value_is_refused_with_its_place() -> None:
    with pytest.raises(BadInput, match=r"value 2 is 0\.0"):
        outcome.transformed(np.array([1.0, 2.0, 0.0]), Transform.LOG)
    assert outcome.transformed(np.array([0.0, -1.0]), Transform.IDENTITY).tolist() == [0.0, -1.0]


def test_a_value_that_is_too_large_to_be_squared_is_refused_with_its_place() -> None:
    with pytest.raises(BadInput, match=r"value 1 is -1\.1e\+150: .* takes values from -1e\+150"):
        outcome.transformed(np.array([1e150, -1.1e150]), Transform.IDENTITY)
    assert np.isfinite(outcome.transformed(np.array([1e300]), Transform.LOG)).all()


def test_a_history_goes_on_behind_a_value_that_is_too_large_to_be_squared() -> None:
    history = outcome.history(np.array([1.0, 1e200, -1e150, -1e151]), Transform.IDENTITY)
    assert np.array_equal(history, [1.0, np.nan, -1e150, np.nan], equal_nan=True)


def test_what_is_searchable_is_what_the_kernels_take() -> None:
    assert MAGNITUDE_MAX_OF_KERNELS[np.dtype(np.float64)] == outcome.MAGNITUDE_MAX


def test_a_history_goes_on_behind_a_value_without_a_logarithm() -> None:
    values = np.array([1.0, 0.0, -2.0, 4.0])
    assert np.array_equal(
        outcome.history(values, Transform.LOG), [0.0, np.nan, np.nan, np.log(4.0)], equal_nan=True
    )
    assert np.array_equal(outcome.history(values, Transform.IDENTITY), values)


def test_a_tally_counts_rises_among_what_moved() -> None:
    assert outcome.tally(np.array([1.0, -1.0, 0.0, np.nan, 2.0])) == (2, 3)
