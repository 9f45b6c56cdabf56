"""Long compilations are explained once in the log, and only for functions of this package."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import pytest

from midstreamer_kernels import compile_notice
from midstreamer_kernels.compile_notice import Announcer
from midstreamer_kernels.native import lcss


def compiling(function: Any) -> Any:
    return SimpleNamespace(data={"dispatcher": function})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("midstreamer_kernels.compile_notice.time.perf_counter", lambda: now[0])
    return now


OURS = next(
    each for each in vars(lcss).values() if isinstance(each, numba.core.dispatcher.Dispatcher)
)


def compiled(announcer: Announcer, function: Any, clock: list[float], seconds: float) -> None:
    announcer.on_start(compiling(function))
    clock[0] += seconds
    announcer.on_end(compiling(function))


def test_a_long_compilation_is_explained_once(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    announcer = Announcer()
    for _ in range(3):
        compiled(announcer, OURS, clock, 0.6 * compile_notice.PATIENCE_S)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "warm" in caplog.text


def test_nested_compilations_count_once(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    announcer = Announcer()
    announcer.on_start(compiling(OURS))
    compiled(announcer, OURS, clock, 0.9 * compile_notice.PATIENCE_S)
    announcer.on_end(compiling(OURS))
    assert not caplog.records


def test_functions_of_other_packages_are_not_explained(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    compiled(Announcer(), numba.njit(lambda: 1), clock, 10 * compile_notice.PATIENCE_S)
    assert not caplog.records


def test_the_first_process_explains_and_the_second_does_not(tmp_path: Path) -> None:
    script = (
        "from midstreamer_kernels import compile_notice, dtw; compile_notice.PATIENCE_S = 0.0;"
        "dtw([1.0], [2.0]); dtw([1.0], [2.0], band=0)"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            check=True, capture_output=True, text=True,
        ).stderr.count("warm")
        for _ in range(2)
    ]  # fmt: skip
    assert outputs == [1, 0]
