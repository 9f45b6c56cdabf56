"""Figures get into the documents from JSON alone."""

from __future__ import annotations

from docs import figures

FLEET = {
    "machine": {"cpu": "A CPU", "cores": 2},
    "date": "2030-01-01",
    "rows": [
        {"what": "round trip", "p50": 0.5, "p99": 1.5, "unit": "ms", "target": "p99 < 2",
         "held": True},
        {"what": "matches", "p50": 1234.0, "p99": None, "unit": "1/s", "target": "", "held": False},
    ],
}  # fmt: skip


def test_what_stands_between_the_marks_is_replaced_and_nothing_else() -> None:
    text = "before\n<!-- figures: fleet -->\nold\n<!-- end -->\nafter"
    made = figures.replaced(text, "fleet", "new")
    assert made == "before\n<!-- figures: fleet -->\nnew\n<!-- end -->\nafter"
    assert figures.replaced(text, "run", "new") == text


def test_a_target_that_was_missed_is_told() -> None:
    made = figures.fleet(FLEET)
    assert "| round trip | 0.5 | 1.5 | ms | p99 < 2 | yes |" in made
    assert "| matches | 1,234 |  | 1/s |  | **no** |" in made
    assert "A CPU, 2 cores" in made


def test_a_run_without_signals_says_none() -> None:
    part = {"data": "sp500", "decisions": 10, "signals": {}, "precision": None,
            "precision_target": 0.55, "base_rate": {"value": 0.5, "low": 0.4, "high": 0.6},
            "coverage": None, "brier_skill": None}  # fmt: skip
    made = figures.run({"parts": [part]})
    assert "| sp500 | 10 | 0 | none | 0.55 | 0.500 (0.400 to 0.600) | none |  |" in made


def test_every_mark_has_its_end() -> None:
    for path in figures.TARGETS:
        text = path.read_text(encoding="utf-8")
        assert text.count("<!-- figures: ") == text.count("<!-- end -->")
