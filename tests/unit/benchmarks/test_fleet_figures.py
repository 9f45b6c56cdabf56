"""Each figure of the fleet's benchmark is the median of several rounds of measurement."""

from __future__ import annotations

from benchmarks import fleet


def test_the_median_of_the_rounds_is_held_against_the_target() -> None:
    quiet, usual, disturbed = [0.001] * 100, [0.0015] * 100, [0.009] * 100
    row = fleet.row("round trip", disturbed, quiet, usual, p99_max_ms=2.0)
    assert (row.p50, row.p99, row.held) == (1.5, 1.5, True)
    assert row.p99_of_rounds == (9.0, 1.0, 1.5)
    assert not fleet.row("round trip", disturbed, quiet, disturbed, p99_max_ms=2.0).held


def test_a_figure_of_one_round_is_that_round() -> None:
    row = fleet.row("match", [0.001] * 98 + [0.02] * 2, p99_max_ms=10.0)
    assert (row.p50, row.p99, row.held, row.count) == (1.0, 20.0, False, 100)
    assert row.p99_of_rounds == ()
