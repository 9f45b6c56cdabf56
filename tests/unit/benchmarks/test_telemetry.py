"""The cost of metrics is computed from blocks of requests with and without metrics."""

from __future__ import annotations

from benchmarks import telemetry
from benchmarks.telemetry import Block, Cost


def a_cost(*added: float, operations: float = 0) -> Cost:
    return Cost(
        "match",
        [Block(1 + each, 0.5) for each in added],
        [Block(1, 0.5) for _ in added],
        {"inc": operations},
    )


def test_the_interval_of_a_median_is_of_values_about_it() -> None:
    middle, low, high = telemetry.confident([float(each) for each in range(100)])
    assert (middle, low, high) == (49.5, 40.0, 59.0)
    assert telemetry.confident([1.0, 2.0, 3.0]) == (2.0, 1.0, 3.0)


def test_neighbours_are_held_against_each_other() -> None:
    middle, low, high = a_cost(0.01, 0.5, -0.2).added(lambda each: each.seen_s)
    assert [round(each, 6) for each in (middle, low, high)] == [0.01, -0.2, 0.5]


def test_the_limit_is_broken_by_operations_and_by_what_pairs_can_tell() -> None:
    each_s = {"inc": 0.001}
    assert telemetry.held([a_cost(0.01, -0.1, 0.3, operations=19)], each_s)
    assert not telemetry.held([a_cost(0.01, -0.1, 0.3, operations=21)], each_s)
    assert not telemetry.held([a_cost(0.03, 0.04, 0.05)], each_s)
