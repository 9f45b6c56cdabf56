"""Searches are exact, use nothing later than the window, and do not depend on the shard size."""

import statistics
import threading
import time
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import midstreamer_kernels as kernels
from midstreamer.agent.searching import Search, step
from midstreamer.agent.shard_data import Held
from midstreamer.coordinator import evidence_merging
from midstreamer.domain import match, outcome
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import BadInput, DeadlineExceeded
from midstreamer.domain.match import Match
from midstreamer.domain.series import Column, Window, column, window
from midstreamer.domain.shard import shards_of
from midstreamer.domain.specification import (
    WINDOW_MAX,
    Measure,
    Scale,
    Specification,
    Transform,
)
from midstreamer.telemetry import metrics
from tests.support.fleet import MINUTE, a_column, a_specification, a_universe, a_walk, a_window
from tests.support.metric_values import shown
from tests.support.thread_time import used_s

POINTS = 64
UNIVERSE = a_universe(3, 300)


def held_shards(columns: list[Column], points: int = POINTS) -> list[Held]:
    shards = []
    for each in columns:
        for shard in shards_of(each.series, len(each), points):
            held = Held(shard, points)
            begin = held.first
            held.append(begin, each.times_array()[begin:], each.values_array()[begin:])
            shards.append(held)
    return shards


def find(
    specification: Specification, windows: list[Window], shards: list[Held], engine: str = "auto"
) -> list[Evidence]:
    return Search(specification, shards, engine).answer(windows)


def one_by_one(specification: Specification, asked: Window, columns: list[Column]) -> Evidence:
    """Return the evidence by its definition: compare and settle each window by itself."""
    query = outcome.transformed(asked.array(), specification.transform)
    rows, outcomes, length = [], [], specification.window
    for each in columns:
        points = outcome.history(each.values_array(), specification.transform)
        count = int(np.count_nonzero(each.times_array() <= asked.time))
        until = outcome.known_until(count, specification.horizon)
        for first in range(0, until - length + 1, specification.grid):
            (scaled,) = outcome.outcomes(points, np.array([first]), specification)
            if np.isnan(scaled):
                continue
            outcomes.append(scaled)
            (found,) = (
                kernels.History(points[first : first + length], dtype="float64")
                .search(query, 1, band=specification.band)
                .distance
            )
            end = int(each.times_array()[first + length - 1])
            rows.append(Match(each.series, first, end, float(found), float(scaled)))
    ups, known = outcome.tally(np.array(outcomes))
    return Evidence(
        specification,
        asked,
        match.from_rows(rows, specification.neighbours),
        ups=ups,
        known=known,
    )


@pytest.mark.parametrize("transform", Transform)
@pytest.mark.parametrize("scale", Scale)
def test_a_search_finds_what_comparing_everything_finds(transform: Transform, scale: Scale) -> None:
    specification = a_specification(transform=transform, scale=scale)
    asked = a_window(UNIVERSE[1], 250, 16)
    (found,) = find(specification, [asked], held_shards(UNIVERSE))
    expected = one_by_one(specification, asked, UNIVERSE)
    assert found.matches == expected.matches
    assert (found.ups, found.known) == (expected.ups, expected.known)
    assert (found.index, found.newest) == (250, True)


@settings(max_examples=25)
@given(data=st.data())
def test_divided_and_merged_is_searched_whole(data: st.DataObject) -> None:
    specification = a_specification(
        neighbours=data.draw(st.integers(1, 40)), measure=data.draw(st.sampled_from(Measure)),
        epsilon=0.3,
    )  # fmt: skip
    ends = data.draw(st.lists(st.integers(20, 299), min_size=1, max_size=3))
    windows = [a_window(data.draw(st.sampled_from(UNIVERSE)), end, 16) for end in ends]
    undivided = find(specification, windows, held_shards(UNIVERSE, 4096))
    parts: list[list[Held]] = [[], [], []]
    for held in held_shards(UNIVERSE, data.draw(st.sampled_from([16, 50, 64]))):
        parts[data.draw(st.integers(0, 2))].append(held)
    answers = [find(specification, windows, part) for part in parts if part]
    merged = evidence_merging.merge(specification, windows, data.draw(st.permutations(answers)))
    assert msgspec.msgpack.encode(merged) == msgspec.msgpack.encode(undivided)


def test_what_came_later_changes_nothing() -> None:
    specification, asked = a_specification(), a_window(UNIVERSE[0], 200, 16)
    other = [
        column(
            each.series,
            each.times_array(),
            np.concatenate([each.values_array()[:201], 1000.0 + a_walk(99, seed=9)]),
        )
        for each in UNIVERSE
    ]
    assert find(specification, [asked], held_shards(UNIVERSE)) == find(
        specification, [asked], held_shards(other)
    )


def test_no_analog_reaches_into_the_embargo() -> None:
    specification, asked = a_specification(neighbours=1000), a_window(UNIVERSE[0], 200, 16)
    (found,) = find(specification, [asked], held_shards(UNIVERSE))
    last = max(found.matches.start_array()) + specification.window - 1
    assert last + 2 * specification.horizon <= 200


def test_flat_windows_are_no_analogs_and_cost_no_neighbours() -> None:
    specification = a_specification(neighbours=5, scale=Scale.DEVIATION)
    values = UNIVERSE[0].values_array().copy()
    values[40:100] = 7.0
    flat = [column("walk/00", UNIVERSE[0].times_array(), values)]
    # If flat windows of the history could be analogs, they would be nearest to this flat query.
    asked = window(np.full(16, 3.0), series="walk/00", time=250 * MINUTE)
    (found,) = find(specification, [asked], held_shards(flat))
    assert len(found.matches) == 5
    assert np.isfinite(found.matches.outcome_array()).all()


def with_values(original: Column, places: list[int], value: float) -> Column:
    values = original.values_array().copy()
    values[places] = value
    return column(original.series, original.times_array(), values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transform", "values"),
    [(Transform.LOG, [0.0, -0.0, -7.5]), (Transform.IDENTITY, [1e200, -1e151, 1.7e308])],
)
@settings(max_examples=25)
@given(data=st.data())
def test_values_that_cannot_be_compared_cost_their_own_windows_and_no_others(
    transform: Transform, values: list[float], data: st.DataObject
) -> None:
    places = st.lists(st.integers(0, 230), max_size=4)
    columns = [
        with_values(each, data.draw(places), data.draw(st.sampled_from(values)))
        for each in UNIVERSE
    ]
    specification = a_specification(transform=transform, neighbours=60)
    asked = a_window(UNIVERSE[1], 250, 16)
    (found,) = find(
        specification, [asked], held_shards(columns, data.draw(st.sampled_from([16, 50, 4096])))
    )
    expected = one_by_one(specification, asked, columns)
    assert found.matches == expected.matches
    assert (found.ups, found.known) == (expected.ups, expected.known)


@pytest.mark.parametrize("engine", ["numba", "wasm"])
def test_the_engine_does_not_show_in_the_answer(engine: str) -> None:
    specification, asked = a_specification(), a_window(UNIVERSE[0], 200, 16)
    assert find(specification, [asked], held_shards(UNIVERSE), engine) == find(
        specification, [asked], held_shards(UNIVERSE), "auto"
    )


@pytest.mark.parametrize(
    ("time", "place"),
    [
        (250 * MINUTE, (250, True)),  # the time of tick 250 of the series
        # Between two ticks, so no tick of the series has this time.
        (250 * MINUTE + 1, (-1, False)),
        (-1, (-1, True)),  # before the first tick
    ],
)
def test_the_position_of_a_window_is_that_at_its_time(time: int, place: tuple[int, bool]) -> None:
    asked = window(a_walk(16), series="walk/01", time=time)
    (found,) = find(a_specification(), [asked], held_shards(UNIVERSE))
    assert (found.index, found.newest) == place


@pytest.mark.parametrize("shard_points", [16, 50, 4096])
@pytest.mark.parametrize("wrong", [[0], [7, 3], [15], []])
def test_the_first_value_that_is_not_stored_is_named_whatever_the_shards(
    shard_points: int, wrong: list[int]
) -> None:
    asked = a_window(UNIVERSE[1], 53, 16)
    sent = asked.array().copy()
    sent[wrong] += 1.0
    altered = window(sent, series=asked.series, time=asked.time)
    shards = held_shards(UNIVERSE, shard_points)
    parts = [find(a_specification(), [altered], [held]) for held in shards]
    (merged,) = evidence_merging.merge(a_specification(), [altered], parts)
    (undivided,) = find(a_specification(), [altered], shards)
    first = min(wrong, default=-1)
    stored = float(asked.array()[first]) if wrong else None
    for found in (merged, undivided):
        assert (found.agrees, found.differs_at, found.stored) == (not wrong, first, stored)


def test_a_window_longer_than_its_series_does_not_agree() -> None:
    asked = window(a_walk(16), series="walk/01", time=9 * MINUTE)
    (found,) = find(a_specification(), [asked], held_shards(UNIVERSE))
    assert (found.agrees, found.differs_at, found.stored) == (False, 0, None)


def test_shards_of_other_series_do_not_locate_a_window() -> None:
    asked = a_window(UNIVERSE[1], 250, 16)
    (found,) = find(a_specification(), [asked], held_shards(UNIVERSE[:1]))
    assert (found.index, found.newest) == (-1, True)


def test_a_cancelled_search_ends() -> None:
    stop = kernels.Stop()
    windows = [a_window(UNIVERSE[0], end, 16) for end in (200, 201, 202)]

    class Left(list[Window]):
        """The windows of a request; the request is cancelled when the second window is read."""

        def __iter__(self) -> Iterator[Window]:
            yield self[0]
            stop.set()
            yield from self[1:]

    with pytest.raises(DeadlineExceeded, match="1 of 3"):
        Search(a_specification(), held_shards(UNIVERSE), "auto").answer(Left(windows), stop)


def left_ms(searching: Search, asked: Window, after_s: float) -> float:
    """Start a search and set its stop flag after `after_s` seconds.

    Return the processor time that the search used after that, in milliseconds.
    """
    stop, ended = kernels.Stop(), list[float]()

    def work() -> None:
        with pytest.raises(DeadlineExceeded):
            searching.answer([asked], stop)
        ended.append(time.thread_time())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(after_s)
    assert thread.is_alive(), "the search ended before it was stopped: make it longer"
    at_the_flag_s = used_s(thread)
    stop.set()
    thread.join(10.0)
    (ended_s,) = ended
    return 1000.0 * (ended_s - at_the_flag_s)


@pytest.mark.slow
@pytest.mark.parametrize("measure", Measure)
@pytest.mark.parametrize("engine", ["numba", "wasm"])
def test_the_dearest_search_ends_within_milliseconds_whatever_it_is_at(
    engine: str, measure: Measure
) -> None:
    columns = [a_column(3 * WINDOW_MAX, series=f"walk/{n}", seed=n) for n in range(4)]
    dearest = a_specification(
        window=WINDOW_MAX, band=WINDOW_MAX, grid=1, measure=measure, epsilon=0.1
    )
    asked = a_window(columns[0], 3 * WINDOW_MAX - 1, WINDOW_MAX)
    find(a_specification(measure=measure, epsilon=0.1), [a_window(columns[0], 200, 16)], [], engine)

    # Each search is stopped later than the one before, so that the stops happen in every step of a
    # search: outcomes, statistics, bounds and comparison.
    left_ms(
        Search(dearest, held_shards(columns, 3 * WINDOW_MAX), engine), asked, 0.01
    )  # loads code
    tries = []
    for after_s in (0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2):
        fresh = Search(dearest, held_shards(columns, 3 * WINDOW_MAX), engine)
        tries.append(left_ms(fresh, asked, after_s))

    print(f"{engine} {measure}: {[round(ms, 2) for ms in tries]} ms")  # noqa: T201 - seen with -s
    assert statistics.median(tries) < 5.0


def test_what_the_kernels_refuse_is_bad_input() -> None:
    asked = window(np.full(16, 1e200), series="walk/01", time=250 * MINUTE)
    with pytest.raises(BadInput, match="1e"):
        find(a_specification(), [asked], held_shards(UNIVERSE))


def busy_s() -> float:
    return shown(metrics.KERNEL_BUSY_S)


def test_each_step_of_a_search_counts_as_time_that_a_thread_was_busy() -> None:
    specification, before = a_specification(), busy_s()
    asked = a_window(UNIVERSE[0], 200, specification.window)
    steps = Search(specification, held_shards(UNIVERSE), "auto").steps([asked], kernels.Stop())
    began_s, count = time.perf_counter(), 0
    while step(steps) is None:
        count += 1
        assert busy_s() > before
    assert 0 < busy_s() - before <= time.perf_counter() - began_s


def test_a_search_that_fails_was_busy_too() -> None:
    specification, before, stop = a_specification(), busy_s(), kernels.Stop()
    stop.set()
    steps = Search(specification, held_shards(UNIVERSE), "auto").steps(
        [a_window(UNIVERSE[0], 200, specification.window)], stop
    )
    with pytest.raises(DeadlineExceeded):
        step(steps)
    assert busy_s() > before
