"""The tracker of intervals reaches the wanted coverage for any scores and any delay of verdicts."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer.reasoning import interval_tracker

MISS_RATE = 0.1
EDGES = [-1.0, 1.0]


def fixed_range_misses(scores: list[float], gain: float, delay: int) -> int:
    """Count the misses: the scores above the width that the tracker has at that time.

    The verdict on a score moves the width only after ``delay`` further scores. The size of a move
    depends on the range of recent scores. This range is fixed here: from -1 to 1.
    """
    width, misses, under_way = 0.0, 0, deque[bool]()
    for score in scores:
        if len(under_way) > delay:
            width, _ = interval_tracker.moved(
                width, EDGES, missed=under_way.popleft(), miss_rate=MISS_RATE, gain=gain
            )
        under_way.append(score > width)
        misses += score > width
    return misses


def bound(gain: float, delay: int) -> float:
    """Return by how much the number of misses may differ from the expected number.

    Each verdict moves the width by ``2 * gain * (missed - MISS_RATE)``. So the width is always
    ``2 * gain`` times the difference between the misses and the expected misses in the verdicts so
    far. The width stays near the scores, which are from -1 to 1: above 1 it has no misses, below -1
    it has only misses, and so it moves back. Therefore the difference is bounded too.
    """
    return 2.0 / (2.0 * gain) + 1.0 + 2.0 * (1.0 + delay)


@settings(max_examples=40)
@given(
    scores=st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.3, 0.9, 1.0]), min_size=200, max_size=400),
    delay=st.integers(0, 8),
    gain=st.sampled_from([0.02, 0.05, 0.2]),
)
def test_misses_are_bounded_whatever_the_scores(
    scores: list[float], delay: int, gain: float
) -> None:
    misses = fixed_range_misses(scores, gain, delay)
    assert abs(misses - MISS_RATE * len(scores)) <= bound(gain, delay)


def test_a_width_that_never_moves_breaks_the_bound() -> None:
    misses = fixed_range_misses([1.0] * 600, gain=1e-9, delay=0)
    assert abs(misses - MISS_RATE * 600) > bound(0.05, 0)


@pytest.mark.parametrize("delay", [1, 6])
def test_coverage_holds_through_a_shock_with_late_verdicts(delay: int) -> None:
    dice = np.random.default_rng(2)
    scores = dice.standard_normal(6000)
    scores[3000:4500] *= 3.0
    width: float | None = None
    kept: list[float] = []
    covered, under_way = [], deque[tuple[float, bool]]()
    for score in scores.tolist():
        if len(under_way) == delay:
            known, missed = under_way.popleft()
            kept = [*kept, known][-interval_tracker.SCORES_KEPT :]
            if width is not None:
                gain = interval_tracker.gain(delay, 1)
                width, _ = interval_tracker.moved(
                    width, kept, missed=missed, miss_rate=MISS_RATE, gain=gain
                )
            elif len(kept) >= interval_tracker.SCORES_MIN:
                width = interval_tracker.first_width(kept, MISS_RATE)
        missed = width is not None and score > width
        under_way.append((score, missed))
        covered.append(not missed)
    assert np.mean(covered[500:]) == pytest.approx(0.9, abs=0.01)
    assert np.mean(covered[3000:4500]) == pytest.approx(0.9, abs=0.03)


def test_a_width_stops_at_its_cap_and_says_so() -> None:
    width, capped = interval_tracker.moved(2.95, [0.0, 1.5], missed=True, miss_rate=0.1, gain=0.5)
    assert (width, capped) == (3.0, True)
    assert interval_tracker.moved(1.0, [0.0, 1.5], missed=True, miss_rate=0.1, gain=0.1)[1] is False


def test_scores_that_never_differ_are_no_cap() -> None:
    assert interval_tracker.moved(1.0, [1.0, 1.0], missed=False, miss_rate=0.1, gain=0.5) == (
        1.0,
        False,
    )


def test_the_gain_falls_with_the_root_of_the_delay() -> None:
    assert interval_tracker.gain(1, 1) == interval_tracker.GAIN
    assert interval_tracker.gain(16, 1) == pytest.approx(interval_tracker.GAIN / 4.0)
    assert interval_tracker.gain(1, 16) == pytest.approx(interval_tracker.GAIN / 2.0)


def test_narrowing_ends_where_the_sides_meet() -> None:
    assert interval_tracker.applied(-5.0, -1.0, 2.0) == -1.5
    assert interval_tracker.applied(0.3, -1.0, 2.0) == 0.3
