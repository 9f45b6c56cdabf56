"""The benchmark of the kernels: its comparisons, its limits for passing, and its report.

The only measurement here is one tiny call, in a process of its own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.kernels import (
    chart,
    data,
    gates,
    growth,
    measure,
    report,
    rival_packages,
    spring_baseline,
    tasks,
)
from benchmarks.kernels.children import Child, ChildError
from benchmarks.kernels.measure import Row
from midstreamer_kernels.reference.dtw import cost_matrix

WASM, TEXTBOOK = "midstreamer f32 WebAssembly in wasmtime", "JavaScript, textbook"


def a_row(task: str, name: str, seconds: float, answer: float = 1.0) -> Row:
    where = "ours" if name.startswith("midstreamer") else "peers"
    return Row(task, name, where, seconds, seconds, seconds, 9, answer, agrees=True)


def verdict(rows: list[Row], title: str, instruction_set: str) -> gates.Verdict:
    found = gates.verdicts(rows, instruction_set)
    return next(each for each in found if each.title.startswith(title))


@pytest.mark.parametrize(
    ("instruction_set", "gate", "held"), [("avx512", 50, False), ("avx2", 25, True)]
)
def test_a_gate_is_halved_on_avx2(instruction_set: str, gate: float, held: bool) -> None:
    rows = [a_row("pair", "midstreamer f32", 1e-4), a_row("pair", "dtaidistance", 3e-3)]

    found = verdict(rows, "DTW 1000×1000 f32, dtaidistance", instruction_set)

    assert found.measured == pytest.approx(30)
    assert (found.gate, found.held) == (gate, held)


def test_other_instruction_sets_have_no_gate() -> None:
    rows = [a_row("pair", "midstreamer f32", 1e-4), a_row("pair", "dtaidistance", 3e-3)]

    assert verdict(rows, "DTW 1000×1000 f32, dtaidistance", "neon").held is None


@pytest.mark.parametrize(("factor", "stops"), [(49.0, True), (56.0, False)])
@pytest.mark.parametrize("instruction_set", ["avx512", "avx2", "neon"])
def test_webassembly_below_fifty_times_javascript_fails_the_run(
    factor: float, stops: bool, instruction_set: str
) -> None:
    rows = [a_row("pair", WASM, 1e-3), a_row("pair", TEXTBOOK, factor * 1e-3)]

    assert gates.stopped(gates.verdicts(rows, instruction_set)) is stops


def test_a_run_without_javascript_fails_and_one_without_its_task_does_not() -> None:
    unmeasured = [a_row("pair", WASM, 1e-3)]

    assert gates.stopped(gates.verdicts(unmeasured, "avx2"))
    assert not gates.stopped(gates.verdicts([a_row("lcss", "aeon", 1.0)], "avx2"))


def test_a_share_of_the_limit_is_a_ratio_of_rates() -> None:
    rows = [a_row("limit", "sub, two min, fma", 1.0, answer=4e6), a_row("limit", "one pair f32", 1)]

    found = verdict(rows, "share of the limit, one pair", "avx512")

    assert found.measured == pytest.approx(0.25)
    assert (found.held, found.unit) == (False, "%")


def test_every_gate_names_entries_that_are_measured() -> None:
    named = {(task.name, entry.name) for task in tasks.TASKS for entry in task.entries}

    assert {(gate.task, name) for gate in gates.GATES for name in (gate.ours, gate.peer)} <= named


def test_answers_may_differ_by_what_float32_rounds() -> None:
    assert measure.close([7, 1.0000005], [7, 1.0])
    assert not measure.close([8, 1.0], [7, 1.0])
    assert not measure.close(1.00001, 1.0)


@pytest.mark.slow
def test_a_process_prepares_and_times_a_call(tmp_path: Path) -> None:
    data.Files(tmp_path).write("pair")
    command = [sys.executable, "-m", "benchmarks.kernels.worker", "benchmarks.kernels.ours"]
    child = Child([*command, tmp_path], processors={0})
    try:
        call = {"call": "pair", "given": ["float64", "numba"]}
        answer = child.ask(do="prepare", **call)["answer"]
        samples = child.ask(do="time", budget_s=0.01, **call)["samples_s"]
        with pytest.raises(ChildError, match="nothing_of_the_kind"):
            child.ask(do="prepare", call="nothing_of_the_kind", given=[])
    finally:
        child.close()
    assert answer == pytest.approx(7.933364, rel=1e-6)
    assert samples
    assert all(0 < seconds < 1 for seconds in samples)


def test_the_plain_spring_computes_what_it_is_measured_for() -> None:
    patterns, stream = data.normal(data.walks(1, 20, 9)), data.walks(2, 30)
    watching = spring_baseline.Spring(patterns)

    for value in stream:
        watching.push(value)

    begun = [cost_matrix(stream[start:].tolist(), patterns[7].tolist(), 99)[-1][-1]
             for start in range(stream.size)]  # fmt: skip
    assert watching.ends[7] == pytest.approx(min(begun), rel=1e-5)
    assert watching.began[7] == np.argmin(begun)


def test_a_report_says_what_was_measured_and_what_is_missing() -> None:
    rows = [a_row("pair", WASM, 1e-3), Row("pair", TEXTBOOK, "javascript", missing="no node")]
    results = report.Report({"cpu": "A CPU"}, {"numba": "1"}, rows, [], [], 12.0, quick=True)

    written = json.loads(results.json())

    assert written["schema"] == report.SCHEMA
    assert written["rows"] == [asdict(row) for row in rows]
    assert {"date", "machine", "packages", "growth", "gates", "seconds", "quick"} <= set(written)


def test_a_chart_is_a_picture_with_a_bar_for_each_figure() -> None:
    rows = [a_row("pair", "midstreamer f32", 1e-4), a_row("pair", "aeon", 3e-3),
            Row("pair", "augurs", "peers", missing="not installed")]  # fmt: skip

    root = ElementTree.fromstring(chart.drawn(tasks.TASKS, rows, "A CPU"))

    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "3 ms, 30x" in texts
    assert "augurs" not in texts
    # The drawing has one rectangle for the background and one for each of the two bars.
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) == 3


def test_a_package_with_another_hash_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    archive.write_bytes(b"not what was expected")

    with pytest.raises(ValueError, match=r"npm\.json has sha512-expected"):
        rival_packages._verify(archive, "sha512-expected")


def test_growth_is_measured_for_each_size_on_one_thread_and_on_two() -> None:
    names = [entry.name for task in growth.tasks(quick=True) for entry in task.entries]

    assert "history, 10,000 points, 1 thread" in names
    assert "collection, 10,000 rows, 2 threads" in names


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(2.5e-7, "250 ns"), (3.5e-5, "35 µs"), (0.25, "250 ms"), (12.0, "12 s")],
)
def test_durations_are_written_in_a_unit_that_fits(seconds: float, expected: str) -> None:
    assert report.duration(seconds) == expected
