"""`Monitor` compared with brute force: dtaidistance gives the DTW distance of every subsequence.

Without normalisation the monitor promises three things. The distance of each detection is correct.
Detections of one pattern do not overlap. And each subsequence within the threshold leads to a
detection: it is a detection itself, or it overlaps a subsequence that is at least as near to the
pattern. That subsequence in turn is a detection or overlaps a subsequence at least as near, and so
on until a detection is reached.
"""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

from midstreamer_kernels import Detection, Monitor
from tests.conformance.other_packages.compared_libraries import dtaidistance_dtw

Floats = NDArray[np.float64]
FAR = 1e6
ROUNDING = 1e-9
seeds = some.integers(0, 2**32)
counts = some.integers(1, 40)
lengths = some.integers(1, 8)
thresholds = some.floats(0.5, 6.0)


def walk(seed: int, points: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(points).cumsum()


def watched(values: Floats, monitor: Monitor) -> list[Detection]:
    """Return all detections of the monitor in these values.

    A point far from every pattern is added at the end: it makes the monitor return a detection that
    a nearer subsequence could still have replaced.
    """
    return [found for value in [*values, FAR] for found in monitor.push(value)]


def near(values: Floats, pattern: Floats, threshold: float) -> list[tuple[int, int, float]]:
    """Return all subsequences within the threshold: start, end (past the last point), distance."""
    spans = itertools.combinations(range(values.size + 1), 2)
    every = ((start, end, dtaidistance_dtw(values[start:end], pattern, None))
             for start, end in spans)  # fmt: skip
    return [found for found in every if found[2] <= threshold]


@given(seed=seeds, count=counts, length=lengths, threshold=thresholds)
@settings(max_examples=60)
def test_detections_are_as_near_as_they_say_and_do_not_overlap(
    seed: int, count: int, length: int, threshold: float
) -> None:
    values, pattern = walk(seed, count), walk(seed + 1, length)

    found = watched(values, Monitor([pattern], threshold=threshold))

    for each in found:
        distance = dtaidistance_dtw(values[each.start : each.end], pattern, None)
        assert abs(each.distance - distance) <= ROUNDING
        assert each.distance <= threshold
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))


@given(seed=seeds, count=counts, length=lengths, threshold=thresholds)
@settings(max_examples=60)
def test_nothing_within_the_threshold_is_lost(
    seed: int, count: int, length: int, threshold: float
) -> None:
    values, pattern = walk(seed, count), walk(seed + 1, length)

    found = watched(values, Monitor([pattern], threshold=threshold))

    led = [(each.start, each.end) for each in found]
    nearest_first = sorted(near(values, pattern, threshold - ROUNDING), key=lambda each: each[2])
    for start, end, _ in nearest_first:
        assert any(other_start < end and start < other_end for other_start, other_end in led)
        led.append((start, end))


@given(seed=seeds, count=counts, threshold=thresholds)
def test_many_patterns_are_watched_as_one_is(seed: int, count: int, threshold: float) -> None:
    values, patterns = walk(seed, count), [walk(seed + n, 1 + n % 7) for n in range(1, 20)]

    found = watched(values, Monitor(patterns, threshold=threshold))

    for number, pattern in enumerate(patterns):
        alone = watched(values, Monitor([pattern], threshold=threshold))
        assert [each[:2] for each in found if each.pattern == number] == [
            each[:2] for each in alone
        ]


@given(seed=seeds, length=some.integers(2, 20), band=some.sampled_from([None, 0, 2]))
def test_normalised_it_compares_the_last_points_at_each_tick(
    seed: int, length: int, band: int | None
) -> None:
    values, pattern, threshold = walk(seed, 60), walk(seed + 1, length), 0.6 * length**0.5

    monitor = Monitor([pattern], threshold=threshold, normalize=True, band=band)
    found = {each.end: each.distance for value in values for each in monitor.push(value)}

    for end in range(length, values.size + 1):
        window = values[end - length : end]
        distance = dtaidistance_dtw(normal(window), normal(pattern), band)
        if abs(distance - threshold) > ROUNDING:
            assert (end in found) == (distance < threshold)
        assert abs(found.get(end, distance) - distance) <= ROUNDING


def normal(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())
