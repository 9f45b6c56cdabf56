"""The commands of `midstreamer_kernels`, its list of engines and its public names."""

import subprocess
import sys
from pathlib import Path

import pytest

import midstreamer_kernels
from midstreamer_kernels import __main__ as command
from midstreamer_kernels import engines


def test_warm_compiles_everything_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)

    command.main(["warm"])

    output = capsys.readouterr()
    assert "kernels are compiled and cached" in output.out
    assert "compiling the kernels" in output.err


def test_engines_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["engines"])

    assert capsys.readouterr().out.startswith("numba: ")


def test_the_engines_of_this_machine_are_known() -> None:
    numba, wasm = engines()

    assert (numba.name, wasm.name) == ("numba", "wasm")
    assert numba.instruction_set in {"avx512", "avx2", "sse2", "neon", "generic"}
    assert (wasm.instruction_set, wasm.lanes) == ("simd128", 4)


def test_everything_named_public_is_there() -> None:
    assert all(hasattr(midstreamer_kernels, name) for name in midstreamer_kernels.__all__)


def test_an_unwritable_package_caches_where_it_is_told(tmp_path: Path) -> None:
    script = "from midstreamer_kernels import lcss; assert lcss([1.0], [1.0], epsilon=0) == 1"

    subprocess.run(
        [sys.executable, "-c", script],
        env={"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        check=True,
    )

    assert list(tmp_path.rglob("*.nbi"))
