"""The previous version runs from its own wheels, although this version is installed too."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import previous_version

pytestmark = pytest.mark.integration

WHERE = (
    "import midstreamer, midstreamer_kernels;"
    "print(midstreamer.__file__, midstreamer_kernels.__file__)"
)
UNHEARD_OF = "0123456789" * 4


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a process of the previous version outside the checkout."""
    return subprocess.run(
        [sys.executable, *words], env=os.environ | previous_version.environment(), cwd="/",
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_process_of_the_version_before_imports_both_packages_from_its_wheels() -> None:
    ended = run("-c", WHERE)
    folder = previous_version.unpacked()
    assert ended.stderr == ""
    assert [Path(each).parent.parent for each in ended.stdout.split()] == [folder, folder]


def test_its_command_runs() -> None:
    ended = run("-m", "midstreamer", "--version")
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "midstreamer")


def test_its_kernels_are_compiled_once_and_for_all() -> None:
    code = previous_version.unpacked() / "midstreamer_kernels" / "native" / "__pycache__"
    held = {path.name: path.stat().st_mtime_ns for path in code.glob("*.nb[ic]")}
    ended = run("-m", "midstreamer_kernels", "warm", "--searches")
    assert ended.returncode == 0, ended.stderr
    assert held
    assert {path.name: path.stat().st_mtime_ns for path in code.glob("*.nb[ic]")} == held


def test_a_clone_without_the_commit_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=f"{UNHEARD_OF}.*git fetch --unshallow"):
        previous_version.export(UNHEARD_OF, tmp_path / "sources")


async def test_several_that_need_it_at_once_find_the_same_folder() -> None:
    words = (
        sys.executable,
        "-c",
        "from tests.support import previous_version; print(previous_version.unpacked())",
    )
    started = [
        await asyncio.create_subprocess_exec(
            *words, cwd=previous_version.ROOT, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    outputs = [(await each.communicate())[0].decode().strip() for each in started]
    assert set(outputs) == {str(previous_version.unpacked())}
