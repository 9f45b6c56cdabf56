"""Compile the kernels ahead of time into a folder, for several levels of x86-64 processors.

A container image carries such a folder, so that its processes need not compile. `build` fills the
folder for every level in `native.cpu_levels`; `native.cpu_target` describes how a process uses the
folder. The calls of `compile_calls` run once, at the highest level that this machine supports (the
baseline x86-64 if it supports none), and numba compiles what they call. The signatures seen there
are then compiled for the other levels without running anything. One process of numba compiles for
one processor level, so each level gets its own process.
"""

from __future__ import annotations

import os
import pickle
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llvmlite import binding
from numba.core.dispatcher import Dispatcher

from midstreamer_kernels import compile_calls
from midstreamer_kernels.errors import KernelError
from midstreamer_kernels.native.cpu_levels import LEVELS, level_of
from midstreamer_kernels.native.cpu_target import VARIABLE
from midstreamer_kernels.native.jit_decorators import SOURCES_DIGEST
from midstreamer_kernels.native.simd_registers import instruction_set_of

__all__ = ["VARIABLE", "Made", "build"]

MACHINES = {"x86_64", "amd64"}
BASELINE = "x86-64"

Signatures = list[tuple[str, str, list[Any]]]
"""One tuple per function: module, name, and its signatures as tuples of argument types."""


class Made(NamedTuple):
    """The amount of code compiled for one processor level."""

    signatures: int
    """Number of compiled signatures."""
    size: int
    """Size of the files in bytes."""

    def __str__(self) -> str:
        """Return both numbers as text, for example "120 signatures, 4.5 MB"."""
        return f"{self.signatures} signatures, {self.size / 1e6:.1f} MB"


def build(folder: Path, *, searches: bool = False) -> dict[str, Made]:
    """Compile the kernels for every processor level into `folder`.

    Return how much code was compiled for each level. The folder is created if it is missing, and
    files of the same name in it are replaced. With `searches`, only code that searches of histories
    need is compiled. The call takes a minute.

    Raises
    ------
    KernelError
        This machine is not x86-64, or a process that compiles failed.
    OSError
        The folder cannot be written.
    """
    if platform.machine().lower() not in MACHINES:
        raise KernelError(
            f"code is compiled ahead for x86-64 alone and this machine is {platform.machine()}: "
            "here code is compiled at the first calls and kept in NUMBA_CACHE_DIR"
        )
    own = level_of(binding.get_host_cpu_features())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".being-made-") as made:
        signatures = Path(made, "signatures")
        _apart(own or BASELINE, Path(made), f"record({searches}, {str(signatures)!r})")
        for level in LEVELS:
            if level != own:
                _apart(level, Path(made), f"compile_all({str(signatures)!r})")
        found = {path.name: path for path in Path(made).rglob("*.nb[ic]")}
        expected = sum(len(each) for _, _, each in _read(signatures))
        return {level: _moved(level, found, expected, folder) for level in LEVELS}


def record(searches: bool, path: str) -> None:
    """Run the calls of `compile_calls`, and write the signatures they compiled to the file `path`.

    `build` calls this function in a process of its own.
    """
    compile_calls.warm_searches() if searches else compile_calls.warm()
    seen = [(module, name, each.signatures) for module, name, each in _functions()]
    Path(path).write_bytes(pickle.dumps(seen))


def compile_all(path: str) -> None:
    """Compile the signatures in the file `path` without calling any kernel.

    `build` calls this function in a process of its own.
    """
    functions = {(module, name): each for module, name, each in _functions()}
    for module, name, signatures in _read(Path(path)):
        for signature in signatures:
            functions[module, name].compile(signature)


def _read(path: Path) -> Signatures:
    wanted: Signatures = pickle.loads(path.read_bytes())  # noqa: S301 - `record` wrote it just now
    return wanted


def _functions() -> Iterator[tuple[str, str, Any]]:
    """Yield module, name and dispatcher of each function that `jit_decorators.jit` compiles."""
    prefix = "midstreamer_kernels.native."
    for module in sorted(name for name in sys.modules if name.startswith(prefix)):
        for name, found in vars(sys.modules[module]).items():
            ours = isinstance(found, Dispatcher) and found.py_func.__module__ == module
            if ours and not found.targetoptions.get("inline"):
                yield module, name, found


def _apart(level: str, cache: Path, call: str) -> None:
    environment = {name: text for name, text in os.environ.items() if name != VARIABLE}
    environment |= {
        "NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(cache),
    }  # fmt: skip
    done = subprocess.run(  # noqa: S603 - this very Python
        [sys.executable, "-c", f"import midstreamer_kernels.compile_ahead as here; here.{call}"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise KernelError(f"compiling for {level} failed: {last}")


def _moved(level: str, found: dict[str, Path], expected: int, folder: Path) -> Made:
    """Move the cache files of one level from a temporary folder into `folder`.

    Index files (``.nbi``) are moved last, because they name the code files. Raises `KernelError` if
    code files are missing.
    """
    mark = f"-{SOURCES_DIGEST}-{instruction_set_of(level, {}).name}."
    names = sorted((name for name in found if mark in name), key=lambda name: name.endswith(".nbi"))
    size = sum(found[name].stat().st_size for name in names)
    count = sum(name.endswith(".nbc") for name in names)
    if count < expected:
        raise KernelError(f"numba kept only {count} of {expected} compiled signatures for {level}")
    for name in names:
        found[name].replace(folder / name)
    return Made(count, size)
