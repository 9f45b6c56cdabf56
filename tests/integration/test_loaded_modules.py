"""A process loads only what its command needs: only agents load the kernels.

Python writes every import to standard error when PYTHONPROFILEIMPORTTIME is set. So the real
processes show what they load until they are ready.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import a_fleet

HEAVY = {"numba", "llvmlite", "wasmtime", "pyarrow", "midstreamer_kernels"}


def loaded(output: str) -> set[str]:
    """Return the top-level packages in the import log that a process wrote to standard error."""
    lines = re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", output, re.MULTILINE)
    return {name.partition(".")[0] for name in lines}


@pytest.mark.integration
@pytest.mark.parametrize(
    "verb", [["--help"], ["status", "--help"], ["certs", "show"], ["config", "show"], ["status"]]
)
def test_a_command_that_searches_nothing_loads_no_kernels(verb: list[str], tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "midstreamer", *verb],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "midstreamer" in loaded(ran.stderr)
    assert loaded(ran.stderr) & HEAVY == set()


@pytest.mark.integration
def test_the_operator_loads_neither_kernels_nor_carriers_nor_a_store(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "midstreamer_operator", "--print-config"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "operator.release = midstreamer  (default)" in ran.stdout
    assert loaded(ran.stderr) & (HEAVY | {"aioquic", "websockets", "asyncpg"}) == set()


@pytest.mark.fleet
@pytest.mark.timeout(300)
async def test_only_agents_load_the_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    async with a_fleet(tmp_path, agents=1) as processes:
        logs = {each.name: each.log.read_text() for each in processes.fleet.children}
    found = {name: loaded(log) & HEAVY for name, log in logs.items()}
    assert "midstreamer" in loaded(logs["sync"]) & loaded(logs["coordinator"])
    assert (found["sync"], found["coordinator"]) == (set(), set())
    assert found["agent-1"] >= {"midstreamer_kernels", "numba"}
