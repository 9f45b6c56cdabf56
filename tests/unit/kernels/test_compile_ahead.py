"""Kernels are compiled ahead for several processor levels, such as x86-64-v3.

A process loads only the code of the highest level that its processor can execute. The answers
equal those of code that the process compiles itself. Some tests make LLVM describe another
processor; the code that runs is always code that this machine can execute.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llvmlite import binding

from midstreamer_kernels import __main__ as command
from midstreamer_kernels import compile_ahead
from midstreamer_kernels.errors import KernelError
from midstreamer_kernels.native import cpu_levels
from midstreamer_kernels.native.cpu_levels import V3, V4, choose

ROOT = Path(__file__).parents[3]
HERE = cpu_levels.level_of(binding.get_host_cpu_features())
AVX2, AVX512 = dict.fromkeys(V3, True), dict.fromkeys(V4, True)
CURTAILED = AVX512 | {"avx512vl": False}  # the first processors with AVX-512 had no AVX-512VL
OLD = AVX2 | {"avx2": False, "fma": False}


@pytest.mark.parametrize(
    ("model", "features", "level", "trouble"),
    [
        ("", AVX512, "x86-64-v4", ""),
        ("", AVX2, "x86-64-v3", ""),
        ("", CURTAILED, "x86-64-v3", ""),
        ("", OLD, "", "lacks avx2, fma"),
        ("", {}, "", "lacks sse3, ssse3, sse4.1, sse4.2"),
        ("x86-64-v3", AVX512, "x86-64-v3", ""),
        ("x86-64-v4", AVX512, "x86-64-v4", ""),
        ("x86-64-v4", AVX2, "x86-64-v3", "not obeyed, this processor lacks avx512f"),
        ("x86-64-v4", OLD, "", "lacks avx2, fma"),
        ("x86-64-v2", AVX512, "", "x86-64-v2 names none of x86-64-v4, x86-64-v3"),
        ("znver5", AVX512, "", "unset it"),
    ],
)
def test_the_level_is_the_highest_that_the_processor_has(
    model: str, features: dict[str, bool], level: str, trouble: str
) -> None:
    chosen = choose(model, features, at_work=False)

    assert chosen.level == level
    assert trouble in chosen.trouble
    assert bool(chosen.trouble) == bool(trouble)


def test_numba_at_work_before_keeps_what_it_compiles_for() -> None:
    chosen = choose("", AVX512, at_work=True)

    assert chosen.level == ""
    assert "import midstreamer_kernels first" in chosen.trouble


def test_other_machines_learn_that_no_code_is_compiled_ahead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    with pytest.raises(SystemExit, match="x86-64 alone and this machine is aarch64"):
        command.main(["ahead", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_a_process_that_cannot_compile_is_reported_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compile_ahead, "record", None)
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(KernelError, match="compiling for .* failed: exit status 1"):
        compile_ahead.build(tmp_path)
    assert not list(tmp_path.iterdir())


# The tests from here on load kernels from `folder`. It is filled only once, with compiled kernels
# for every level in `cpu_levels.LEVELS`.

SEARCHES = """
import hashlib, json, logging, sys
read = []
sys.addaudithook(lambda name, given: name == "open" and read.append(str(given[0])))
told = []
class Kept(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())
logging.getLogger("midstreamer_kernels").addHandler(Kept())
{before}
from tests.support.compilations import COMPILED
import numpy as np
from midstreamer_kernels import History, Run, nearest
from midstreamer_kernels.native.cpu_target import TARGET
{after}
digest = hashlib.sha256()
walk = np.random.default_rng(1).standard_normal(4_000).cumsum()
runs = [Run(History(walk[begin:], dtype="float64")) for begin in (0, 900)]
for engine in ("numba", "wasm"):
    for measure, epsilon in (("dtw", None), ("lcss", 0.5)):
        for some, normalize, step in ((runs, True, 1), (runs[1:], False, 4)):
            for k, cutoff in ((20, None), (None, 2.0 if measure == "dtw" else 0.3)):
                found = nearest(
                    some, walk[90:154], k, measure=measure, epsilon=epsilon, band=5, step=step,
                    normalize=normalize, cutoff=cutoff, engine=engine,
                )
                digest.update(b"".join(part.tobytes() for part in found))
print(json.dumps({{
    "answers": digest.hexdigest(), "compiled": COMPILED.names, "model": TARGET.model, "told": told,
    "read": [path for path in read if path.endswith((".nbi", ".nbc"))],
}}))
"""


def faked(features: dict[str, bool]) -> str:
    """Return Python code that makes LLVM report a processor with these features."""
    described = f"binding.FeatureMap({features!r})"
    return f"from llvmlite import binding; binding.get_host_cpu_features = lambda: {described}"


def searched(before: str = "", after: str = "", **environment: str) -> dict[str, Any]:
    """Run every kind of search of an agent in a new process.

    Return the digest of the answers, the compiled functions, the log messages and the files read.
    """
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", SEARCHES.format(before=before, after=after)],
        cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kernels compiled ahead for all levels of processors.

    It holds only the kernels for searches, because all kernels take four times as long to compile.
    """
    decisions = tmp_path_factory.mktemp("ahead")
    command.main(["ahead", str(decisions), "--searches"])
    return decisions


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of the searches in a process that compiles every kernel for this processor."""
    found = searched(NUMBA_CACHE_DIR=str(tmp_path_factory.mktemp("cache")))
    assert found["model"] == ""
    assert len(found["compiled"]) > 10
    return found


needs_level = pytest.mark.skipif(
    not HERE, reason="this processor supports no level of compiled kernels"
)


@pytest.mark.integration
@pytest.mark.timeout(300)
@needs_level
@pytest.mark.parametrize("level", list(cpu_levels.LEVELS))
def test_nothing_is_compiled_and_answers_are_equal_to_the_bit(
    level: str, folder: Path, fresh: dict[str, Any]
) -> None:
    if level > HERE:
        pytest.skip(f"this processor lacks {level}")
    before = sorted(folder.iterdir())

    found = searched(MIDSTREAMER_KERNELS_AHEAD=str(folder), NUMBA_CPU_NAME=level)

    assert (found["compiled"], found["told"], found["model"]) == ([], [], level)
    assert found["answers"] == fresh["answers"]
    assert found["read"]
    assert all(Path(path).parent == folder for path in found["read"])
    assert sorted(folder.iterdir()) == before


@pytest.mark.integration
@pytest.mark.timeout(300)
@needs_level
@pytest.mark.parametrize("asked", ["", "x86-64-v4"])
def test_a_level_that_the_processor_lacks_is_never_loaded(asked: str, folder: Path) -> None:
    named = {"NUMBA_CPU_NAME": asked} if asked else {}

    found = searched(faked(CURTAILED), MIDSTREAMER_KERNELS_AHEAD=str(folder), **named)

    # The folder has kernels for AVX-512, which must not be loaded here.
    assert list(folder.glob("*-avx512.*"))
    assert (found["model"], found["compiled"]) == ("x86-64-v3", [])
    assert found["read"]
    assert all("-avx2." in path for path in found["read"])
    assert ["not obeyed" in message for message in found["told"]] == ([True] if asked else [])


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_processor_without_any_level_reads_nothing_of_the_folder(
    folder: Path, fresh: dict[str, Any], tmp_path: Path
) -> None:
    found = searched(
        faked(OLD), MIDSTREAMER_KERNELS_AHEAD=str(folder), NUMBA_CACHE_DIR=str(tmp_path)
    )

    assert [Path(path) for path in found["read"] if Path(path).parent == folder] == []
    assert found["answers"] == fresh["answers"]
    assert len(found["told"]) == 1
    assert "this processor lacks avx2, fma" in found["told"][0]


@pytest.mark.integration
@pytest.mark.timeout(300)
@needs_level
def test_missing_or_damaged_code_is_compiled_in_memory_and_reported_once(
    folder: Path, fresh: dict[str, Any], tmp_path: Path
) -> None:
    for path in folder.iterdir():
        if "lcss_lanes" not in path.name and "compare_common" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    for path in tmp_path.glob("*compare_warped*.nbc"):
        path.write_bytes(path.read_bytes()[:1000])
    before = sorted(tmp_path.iterdir())

    found = searched(MIDSTREAMER_KERNELS_AHEAD=str(tmp_path))

    assert found["answers"] == fresh["answers"]
    assert {name.rpartition(".")[2] for name in found["compiled"]} >= {
        "compare_common", "compare_warped", "lcss_lanes",
    }  # fmt: skip
    assert len(found["told"]) == 1
    assert "compare_warped is not in MIDSTREAMER_KERNELS_AHEAD=" in found["told"][0]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.integration
def test_a_missing_folder_is_reported_once(tmp_path: Path, fresh: dict[str, Any]) -> None:
    found = searched(MIDSTREAMER_KERNELS_AHEAD=str(tmp_path / "none"))

    assert found["answers"] == fresh["answers"]
    assert len(found["told"]) == 1
    assert found["told"][0].endswith("none: there is no such folder")


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_disk_that_becomes_read_only_costs_time_and_no_answer(
    tmp_path: Path, fresh: dict[str, Any]
) -> None:
    refusing = (
        "from numba.core import caching\n"
        "def refuse(*_): raise OSError(30, 'Read-only file system')\n"
        "caching.IndexDataCacheFile.save = refuse"
    )

    found = searched(after=refusing, NUMBA_CACHE_DIR=str(tmp_path))

    assert found["answers"] == fresh["answers"]
    assert len(found["told"]) == 1
    assert "Read-only file system. Set NUMBA_CACHE_DIR to a folder" in found["told"][0]


@pytest.mark.integration
@pytest.mark.timeout(300)
@needs_level
def test_agents_and_backtests_compile_nothing(folder: Path) -> None:
    tests = ("tests/unit/agent", "tests/unit/analogs", "tests/unit/market/test_backtest.py")

    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "tests.support.compilations",
            "-p", "no:xdist", "-p", "no:cacheprovider", *tests,
        ],
        cwd=ROOT, env=os.environ | {"MIDSTREAMER_KERNELS_AHEAD": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert "compiled: []" in done.stdout
