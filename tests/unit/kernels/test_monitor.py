"""`Monitor` reports exactly the matches that brute force over all subsequences finds."""

import copy
import itertools
import math
import pickle
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstreamer_kernels import Detection, Monitor
from midstreamer_kernels.errors import InputError, NotFiniteError, OptionError, ShapeError
from midstreamer_kernels.monitor_plain_mode import Watch
from midstreamer_kernels.reference.dtw import dtw
from midstreamer_kernels.reference.normal import normalize
from midstreamer_kernels.reference.spring import brute_force, spring

slowly = settings(deadline=None)  # no deadline: the first example may compile
few = st.integers(-2, 2).map(float)
any_float = st.floats(-5, 5, width=32)
# Sums of these numbers' squares are exact, so rounding never makes two paths equally near.
exact = st.one_of(few, st.integers(-5_000, 5_000).map(lambda number: number / 1024))
series = st.one_of(
    st.lists(few, min_size=1, max_size=7), st.lists(any_float, min_size=1, max_size=7)
)
streams = st.one_of(st.lists(few, max_size=40), st.lists(any_float, max_size=40))
thresholds = st.sampled_from([0.0, 0.25, 1.0, 2.0, 3.5])
patterns_of_any_length = st.lists(series, min_size=1, max_size=40)


def a_stream_of(patterns: list[list[float]], seed: int, count: int = 300) -> list[float]:
    """Return a stream of noisy occurrences of the patterns, noise, and constant points."""
    dice = random.Random(seed)
    stream: list[float] = []
    while len(stream) < count:
        spell = dice.random()
        if spell < 0.3:
            stream += [dice.choice([0.0, 1.0, 5.0])] * dice.randint(1, 60)
        elif spell < 0.6:
            stream += [dice.gauss(0, 2) for _ in range(dice.randint(1, 20))]
        else:
            stream += [value + dice.gauss(0, 0.1) for value in dice.choice(patterns)]
    return stream


def expected(stream: list[float], patterns: list[list[float]], threshold: float) -> list[Detection]:
    return [
        Detection(start, end, number, math.sqrt(cost))
        for number, pattern in enumerate(patterns)
        for (start, end, cost), _ in spring(stream, pattern, threshold)
    ]


@given(
    stream=st.lists(exact, max_size=40),
    pattern=st.lists(exact, min_size=1, max_size=7),
    threshold=thresholds,
)
@example(stream=[0.25, 0.0], pattern=[0.25, -1.0], threshold=1.0)
def test_the_algorithm_is_brute_force_over_all_sub_sequences(
    stream: list[float], pattern: list[float], threshold: float
) -> None:
    assert [match for match, _ in spring(stream, pattern, threshold)] == brute_force(
        stream, pattern, threshold
    )


def test_of_paths_that_only_rounding_makes_equal_the_nearer_counts() -> None:
    # The path from point 1 costs 1e-24 more than the path from point 0.
    stream, pattern = [1e-12, 0.0], [1e-12, -1.0]

    assert brute_force(stream, pattern, 1.0) == [(1, 2, 1.0)]
    assert Monitor([pattern], threshold=1.0).extend([*stream, 9.0]) == [Detection(0, 2, 0, 1.0)]


@given(stream=streams, pattern=series, threshold=thresholds)
def test_each_subsequence_within_the_threshold_overlaps_a_match(
    stream: list[float], pattern: list[float], threshold: float
) -> None:
    stream = stream[:15]
    found = [(start, end) for start, end, _ in brute_force(stream, pattern, threshold)]
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(found))
    within = sorted(
        (distance, start, end)
        for start, end in itertools.combinations(range(len(stream) + 1), 2)
        if (distance := dtw(stream[start:end], pattern)) <= threshold
    )
    for _, alike in itertools.groupby(within, key=lambda match: match[0]):
        waiting = [(start, end) for _, start, end in alike]
        # The subsequences in `waiting` all have the same distance. If a subsequence overlaps an
        # element of `found`, move the subsequence to `found`. The moved one may overlap others in
        # `waiting`, so repeat this until none is moved.
        while joined := [
            match for match in waiting if any(_overlap(match, other) for other in found)
        ]:
            found += joined
            waiting = [match for match in waiting if match not in joined]
        assert waiting == []


def _overlap(match: tuple[int, int], other: tuple[int, int]) -> bool:
    return match[0] < other[1] and other[0] < match[1]


@slowly
@given(stream=streams, patterns=patterns_of_any_length, threshold=thresholds)
def test_each_match_is_reported_to_the_bit_when_it_is_certain(
    stream: list[float], patterns: list[list[float]], threshold: float
) -> None:
    monitor = Monitor(patterns, threshold=threshold)
    reports = [(count, monitor.push(value)) for count, value in enumerate(stream, 1)]
    reports.append((len(stream) + 1, monitor.finish()))
    for number, pattern in enumerate(patterns):
        certain = [
            ((match.start, match.end, match.distance), count)
            for count, detections in reports
            for match in detections
            if match.pattern == number
        ]
        assert certain == [
            ((start, end, math.sqrt(cost)), count)
            for (start, end, cost), count in spring(stream, pattern, threshold)
        ]


@pytest.mark.parametrize("audit", [20, 61, 10_000])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_patterns_that_sleep_and_wake_miss_nothing(audit: int, threshold: float) -> None:
    dice = random.Random(audit)
    patterns = [[dice.gauss(0, 2) for _ in range(dice.randint(1, 6))] for _ in range(40)]
    stream = a_stream_of(patterns, audit, 700)
    watch = Watch([np.array(pattern) for pattern in patterns], threshold, audit=audit)
    found = [*watch.take(np.array(stream[:350])), *watch.take(np.array(stream[350:]))]
    found += watch.finish()
    wanted = expected(stream, patterns, threshold)
    assert sorted(found) == sorted((match.pattern, *match[:2], match.distance) for match in wanted)


@slowly
@given(stream=streams, cut=st.integers(0, 40), patterns=patterns_of_any_length)
def test_many_points_at_once_are_as_one_by_one(
    stream: list[float], cut: int, patterns: list[list[float]]
) -> None:
    single, together = (Monitor(patterns, threshold=1.0) for _ in range(2))
    one_by_one = [found for value in stream for found in single.push(value)]
    assert [*together.extend(stream[:cut]), *together.extend(stream[cut:])] == one_by_one
    assert together.position == single.position == len(stream)
    assert together.finish() == single.finish()


@pytest.mark.parametrize("level", [0.0, 1e6, -1e12])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_patterns_of_any_level_and_size_are_found(level: float, size: float) -> None:
    dice = np.random.default_rng(3)
    patterns = level + size * dice.standard_normal((20, 16)).cumsum(axis=1)
    stream = level + size * dice.standard_normal(300)
    for row in range(0, 20, 3):
        stream[15 * row : 15 * row + 16] = patterns[row] + 0.01 * size * dice.standard_normal(16)
    monitor = Monitor(patterns, threshold=0.1 * size)
    found = [*monitor.extend(stream), *monitor.finish()]
    assert sorted(found, key=lambda match: (match.pattern, match.start)) == expected(
        stream.tolist(), patterns.tolist(), 0.1 * size
    )
    assert {match.pattern for match in found} >= set(range(0, 18, 3))


def test_extreme_magnitudes_are_compared_like_all_others() -> None:
    stream = [1e150, -1e150, 0.0, 1e-200, 5e-324, 1e150]
    patterns = [[1e150], [0.0, 0.0], [5e-324], [-1e150, 1e150]]
    for threshold in (0.0, 5e-324, 1.0, 1e160):
        monitor = Monitor(patterns, threshold=threshold)
        found = sorted([*monitor.extend(stream), *monitor.finish()], key=lambda match: match[2::-1])
        assert sorted(found) == sorted(expected(stream, patterns, threshold))


@pytest.mark.parametrize("level", [0.0, 1e7])
def test_the_threshold_is_inclusive(level: float) -> None:
    dice = np.random.default_rng(5)
    for _ in range(100):
        pattern = level + dice.standard_normal(24).cumsum()
        stream = pattern.repeat(2) + 0.1 * dice.standard_normal(48)
        ((_, _, cost), _), *_ = spring(stream.tolist(), pattern.tolist(), 3.0)
        threshold = math.sqrt(cost)
        found = {match.distance for match in _all_found(stream, pattern, threshold)}
        assert threshold in found
        assert threshold not in {
            match.distance for match in _all_found(stream, pattern, math.nextafter(threshold, 0.0))
        }


def _all_found(
    stream: NDArray[np.float64], pattern: NDArray[np.float64], threshold: float
) -> list[Detection]:
    monitor = Monitor([pattern], threshold=threshold)
    return [*monitor.extend(stream), *monitor.finish()]


@slowly
@given(
    stream=streams,
    patterns=patterns_of_any_length,
    threshold=thresholds,
    band=st.none() | st.integers(0, 4),
)
def test_normalised_windows_are_brute_force_to_the_bit(
    stream: list[float], patterns: list[list[float]], threshold: float, band: int | None
) -> None:
    wanted = [
        Detection(end - len(pattern), end, number, distance)
        for end in range(1, len(stream) + 1)
        for number, pattern in enumerate(patterns)
        if end >= len(pattern)
        for window in [normalize(stream[end - len(pattern) : end])]
        if (distance := dtw(window, normalize(pattern), band)) <= threshold
    ]
    monitor = Monitor(patterns, threshold=threshold, normalize=True, band=band)
    assert monitor.extend(stream) == wanted
    assert monitor.finish() == []


def test_a_normalised_window_does_not_depend_on_what_came_before() -> None:
    stream = 1e9 + np.random.default_rng(4).standard_normal(10_000).cumsum()
    pattern = stream[-64:]
    long, short = (Monitor([pattern], threshold=0.0, normalize=True) for _ in range(2))
    assert long.extend(stream) == [Detection(9_936, 10_000, 0, 0.0)]
    assert short.extend(stream[-64:]) == [Detection(0, 64, 0, 0.0)]


def test_after_the_end_a_monitor_is_as_new() -> None:
    monitor = Monitor([[1.0, 2.0]], threshold=0.5)
    first = [*monitor.extend([0.0, 1.0, 2.0]), *monitor.finish()]
    assert monitor.position == 0
    assert (
        [*monitor.extend([0.0, 1.0, 2.0]), *monitor.finish()] == first == [Detection(1, 3, 0, 0.0)]
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_a_refused_point_is_named_and_not_taken(normalize: bool) -> None:
    monitor = Monitor([[1.0, 2.0, 1.0]], threshold=0.0, normalize=normalize)
    monitor.extend([9.0, 1.0])
    for bad in (math.nan, math.inf, -1e200):
        with pytest.raises(NotFiniteError, match="at position 2 of the stream"):
            monitor.push(bad)
    with pytest.raises(NotFiniteError, match="at position 4 of the stream"):
        monitor.extend([2.0, 1.0, math.nan])
    with pytest.raises(ShapeError, match="not a number"):
        monitor.push("much")  # type: ignore[arg-type]
    assert [*monitor.extend([2.0, 1.0]), *monitor.finish()] == [Detection(1, 4, 0, 0.0)]


@pytest.mark.parametrize("normalize", [False, True])
def test_patterns_are_those_of_the_beginning_whatever_becomes_of_the_arrays(
    normalize: bool,
) -> None:
    pattern = np.array([1.0, 2.0, 4.0])
    monitor = Monitor([pattern], threshold=0.5, normalize=normalize)
    pattern[:] = [7.0, 6.0, 8.0]

    for _ in range(2):
        found = [*monitor.extend([1.0, 2.0, 4.0]), *monitor.finish()]
        assert [(match.start, match.end, match.distance) for match in found] == [(0, 3, 0.0)]


@pytest.mark.parametrize("normalize", [False, True])
def test_a_monitor_stays_whole_when_several_threads_push(normalize: bool) -> None:
    dice = np.random.default_rng(2)
    monitor = Monitor(dice.standard_normal((20, 64)), threshold=9.0, normalize=normalize)
    parts = dice.standard_normal((3, 100, 50))

    with ThreadPoolExecutor(3) as pool:
        for _ in pool.map(lambda many: [monitor.extend(part) for part in many], parts):
            pass  # reading a thread's result raises the thread's exception

    assert monitor.position == parts.size


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda match: pickle.loads(pickle.dumps(match))])
def test_a_copy_of_a_monitor_goes_on_by_itself(
    copied: Callable[[Monitor], Monitor], normalize: bool
) -> None:
    patterns = [[0.0, 1.0, 3.0], [2.0, 1.0]]
    stream = a_stream_of(patterns, seed=5)
    monitor = Monitor(patterns, threshold=1.0, normalize=normalize)
    monitor.extend(stream[:100])
    twin = copied(monitor)

    expected = [*monitor.extend(stream[100:]), *monitor.finish()]
    del monitor  # if the copy shared the monitor's arrays, it would now crash or give other results

    assert [*twin.extend(stream[100:]), *twin.finish()] == expected != []


@pytest.mark.parametrize(
    ("patterns", "options", "error"),
    [
        ([], {}, ShapeError),
        ([1.0, 2.0], {}, ShapeError),
        ([[1.0], []], {}, ShapeError),
        ([[1.0], [1.0, math.nan]], {}, NotFiniteError),
        ([[1.0]], {"threshold": math.inf}, OptionError),
        ([[1.0]], {"threshold": -1.0}, OptionError),
        ([[1.0]], {"band": 1}, OptionError),
        ([[1.0]], {"band": -1, "normalize": True}, InputError),
    ],
)
def test_what_cannot_be_looked_for_is_refused(
    patterns: list[list[float]], options: dict[str, float], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Monitor(patterns, **{"threshold": 1.0, **options})  # type: ignore[arg-type]
