"""A program may tell numba to compile for another processor.

The answers stay equal, and the cache stays valid.
"""

import os
import subprocess
import sys
from typing import Any

import numba
import pytest

from midstreamer_kernels.native import heap, jit_decorators
from midstreamer_kernels.native.simd_registers import instruction_set

FIRST = """
import os
import numba
def rename():
    {change}
{early}
import numpy as np
from midstreamer_kernels import History, Run, engines, nearest
{late}
walk = np.random.default_rng(1).standard_normal(3_000).cumsum()
runs = [Run(History(walk, dtype="float64"))]
for measure, epsilon in (("dtw", None), ("lcss", 0.5)):
    numba_, wasm = (
        nearest(runs, walk[90:154], 20, measure=measure, epsilon=epsilon, band=5, engine=engine)
        for engine in ("numba", "wasm")
    )
    assert all(map(np.array_equal, numba_, wasm)), (numba_, wasm)
print(engines()[0].instruction_set)
"""
CHANGES = {
    "environment": "os.environ['NUMBA_CPU_NAME'] = 'x86-64-v2'",
    "configuration": "numba.config.CPU_NAME = 'x86-64-v2'",
}
BEFORE = "rename()"
AT_WORK = "numba.njit(lambda: 1)(); rename()"


def ran(change: str, early: str = "", late: str = "") -> str:
    """Run searches with both engines in a new process; return the kernels' instruction set.

    The process runs the code ``early`` before it imports the kernels, and ``late`` after that.
    Both can call ``rename``, which tells numba to compile for another processor. ``change`` chooses
    how: by the environment or by numba's configuration.
    """
    environment = {name: text for name, text in os.environ.items() if name != "NUMBA_CPU_NAME"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST.format(change=CHANGES[change], early=early, late=late)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "early"),
    [("environment", BEFORE), ("configuration", BEFORE), ("environment", AT_WORK)],
)
def test_a_processor_named_after_numba_was_imported_changes_no_answer(
    change: str, early: str
) -> None:
    ran("environment", early="pass")  # fills the cache with code for this processor

    assert ran(change, early=early) == "sse2"


@pytest.mark.integration
@pytest.mark.parametrize("change", CHANGES)
def test_a_processor_named_after_the_package_was_imported_has_no_effect(change: str) -> None:
    expected = ran(change, early="pass")

    assert ran(change, late="rename()") == expected
    # The search with another processor name left nothing wrong in the cache.
    assert ran(change, early="pass") == expected


def test_what_is_cached_bears_the_name_of_what_it_was_compiled_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache: Any = heap.sift_down._cache
    signature = (numba.types.int64,)
    codegen = heap.sift_down.targetctx.codegen()
    before = cache._index_key(signature, codegen)
    monkeypatch.setattr(numba.config, "CPU_NAME", "another")

    assert codegen.magic_tuple() != before[1]
    assert cache._index_key(signature, codegen) == before
    assert cache._impl.filename_base.endswith(
        f"-{jit_decorators.SOURCES_DIGEST}-{instruction_set().name}"
    )
