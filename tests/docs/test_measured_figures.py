"""Figures in the documentation come only from JSON files of measurements."""

from __future__ import annotations

from tools.docs import measured_figures

FLEET = {
    "machine": {"cpu": "A CPU", "cores": 2},
    "date": "2030-01-01",
    "rows": [
        {"what": "round trip", "p50": 0.5, "p99": 1.5, "unit": "ms", "target": "p99 < 2",
         "held": True, "p99_of_rounds": [1.5, 1.25, 9.0]},
        {"what": "echo", "p50": 0.5, "p99": 3.0, "unit": "ms", "target": "p99 < 2", "held": False},
        {"what": "matches", "p50": 1234.0, "p99": None, "unit": "1/s", "target": "", "held": True},
    ],
}  # fmt: skip


def test_what_stands_between_the_marks_is_replaced_and_nothing_else() -> None:
    text = "before\n<!-- figures: fleet -->\nold\n<!-- end -->\nafter"
    page = measured_figures.replaced(text, "fleet", "new")
    assert page == "before\n<!-- figures: fleet -->\nnew\n<!-- end -->\nafter"
    assert measured_figures.replaced(text, "run", "new") == text


def test_a_target_that_was_missed_is_told() -> None:
    table = measured_figures.fleet(FLEET)
    assert "| round trip | 0.5 | 1.5 | ms |  | p99 < 2 | yes |" in table
    assert "| echo | 0.5 | 3 | ms |  | p99 < 2 | **no** |" in table
    assert "| matches | 1,234 |  | 1/s |  |  |  |" in table
    assert "A CPU, 2 cores" in table
    assert table.endswith("whose p99 were: round trip 1.5, 1.25, 9.")


def test_a_run_without_signals_says_none() -> None:
    part = {"data": "sp500", "decisions": 10, "signals": {}, "precision": None,
            "precision_target": 0.55, "base_rate": {"value": 0.5, "low": 0.4, "high": 0.6},
            "coverage": None, "brier_skill": None}  # fmt: skip
    table = measured_figures.run({"parts": [part]})
    assert "| sp500 | 10 | 0 | none | 0.55 | 0.500 (0.400 to 0.600) | none |  |" in table


KERNELS = {
    "machine": {"cpu": "A CPU", "cores": 2, "instruction_set": "avx2"},
    "packages": {"numba": "1.2"},
    "date": "2030-01-01",
    "seconds": 300.0,
    "gates": [
        {"title": "a gate", "measured": 20.0, "gate": 25.0, "goal": 100, "held": False, "unit": "x"}
    ],
    "rows": [
        {"task": "pair", "name": "ours", "median_s": 2e-5, "low_s": 1e-5, "high_s": 3e-5,
         "agrees": True, "missing": None},
        {"task": "pair", "name": "theirs", "median_s": None, "low_s": None, "high_s": None,
         "agrees": None, "missing": "not installed"},
    ],
    "growth": [
        {"name": "history", "median_s": 0.5, "answer": {"build_s": 2.0, "bytes_per_point": 20.04}}
    ],
}  # fmt: skip


def test_a_gate_of_the_kernels_that_was_missed_is_told_and_so_is_what_is_missing() -> None:
    table = measured_figures.kernels(KERNELS)
    assert "`make bench` on A CPU, 2 cores, avx2, 2030-01-01, 5 minutes; peers: numba 1.2:" in table
    assert "| a gate | 20x | 25x | 100x | **no** |" in table
    assert "| ours | 20 µs | 10 µs to 30 µs | same |" in table
    assert "| theirs | missing |  | not installed |" in table
    assert "| history | 500 ms | 2 s | 20.0 |  |" in table


def test_every_mark_has_its_end() -> None:
    for path in measured_figures.TARGETS:
        text = path.read_text(encoding="utf-8")
        assert text.count("<!-- figures: ") == text.count("<!-- end -->")
