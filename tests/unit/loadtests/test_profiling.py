"""A flame graph gives each function's share of the time; recursive calls are not counted twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests import profiling
from loadtests.profiling import Box
from midstreamer.domain.errors import MidstreamerError

GRAPH = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:fg="http://github.com/jonhoo/inferno">
<g><title>all (10 samples, 100%)</title><rect y="36" fg:x="0" fg:w="10"/></g>
<g><title>run (loop.py) (10 samples, 100.00%)</title><rect y="52" fg:x="0" fg:w="10"/></g>
<g><title>seal (crypto.py) (1 sample, 10.00%)</title><rect y="68" fg:x="9" fg:w="1"/></g>
<g><title>send (socket.py) (4 samples, 40.00%)</title><rect y="68" fg:x="0" fg:w="4"/></g>
</svg>"""


def test_a_graph_says_how_long_a_function_ran_itself_and_with_what_it_calls(tmp_path: Path) -> None:
    path = tmp_path / "sync.svg"
    path.write_text(GRAPH, encoding="utf-8")
    found = profiling.read(path)
    assert found.samples == 10
    assert found.itself["run (loop.py)"] == 5
    assert found.within == {"run (loop.py)": 10, "send (socket.py)": 4, "seal (crypto.py)": 1}


def test_a_function_that_calls_itself_counts_once() -> None:
    boxes = [Box(0, 0, 6, "all"), Box(0, 1, 6, "walk"), Box(0, 2, 4, "walk"), Box(0, 3, 1, "end")]
    found = profiling.added(reversed(boxes))
    assert found.within == {"walk": 6, "end": 1}
    assert found.itself == {"walk": 5, "end": 1}


def test_a_loop_that_waits_for_work_is_left_out() -> None:
    waits = "_worker (concurrent/futures/thread.py:69)"
    loop = [Box(0, 0, 6, "all"), Box(0, 1, 6, "loop"), Box(0, 2, 6, waits)]
    found = profiling.added([*loop, Box(4, 3, 2, "work")])
    assert found.samples == 2
    assert found.within == {"loop": 2, waits: 2, "work": 2}
    assert +found.itself == {"work": 2}


def test_without_the_program_one_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "PROGRAM", tmp_path / "py-spy")
    with pytest.raises(MidstreamerError, match="make dev installs it"):
        profiling.prepare(tmp_path / "profiles")
