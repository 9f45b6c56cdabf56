"""Code compiled ahead, for processors that this machine need not be: what an image carries.

`build` fills a folder for every level of `native.levels`, and `native.target` says how a process
uses it. What is compiled is what `warming` calls: it is called once, at a level that this machine
has, and the signatures seen there are compiled for the others without a call. numba compiles for
one processor in a process, so each level gets a process of its own.
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

from midstreamer_kernels import warming
from midstreamer_kernels.errors import KernelError
from midstreamer_kernels.native.compiling import SOURCES_DIGEST
from midstreamer_kernels.native.levels import LEVELS, level_of
from midstreamer_kernels.native.machine import instruction_set_of
from midstreamer_kernels.native.target import VARIABLE

__all__ = ["VARIABLE", "Made", "build"]

MACHINES = {"x86_64", "amd64"}
BASELINE = "x86-64"

Signatures = list[tuple[str, str, list[Any]]]
"""Module, function, and the types of the arguments of each signature."""


class Made(NamedTuple):
    """What was compiled for a level."""

    signatures: int
    size: int
    """Bytes."""

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.signatures} signatures, {self.size / 1e6:.1f} MB"


def build(folder: Path, *, searches: bool = False) -> dict[str, Made]:
    """Compile for every level into a folder, which is made; what was there for it is replaced.

    With `searches`, only what searches of histories need. Takes a minute; returns what was made for
    each level.

    Raises
    ------
    KernelError
        This machine is not an x86-64, or a process that compiles has failed.
    OSError
        The folder cannot be written.
    """
    if platform.machine().lower() not in MACHINES:
        raise KernelError(
            f"code is compiled ahead for x86-64 alone and this machine is {platform.machine()}: "
            "here it is compiled at the first calls; NUMBA_CACHE_DIR says where it is kept"
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
    """Compile by calling; write the signatures to a file. In a process that `build` starts."""
    warming.warm_searches() if searches else warming.warm()
    seen = [(module, name, each.signatures) for module, name, each in _functions()]
    Path(path).write_bytes(pickle.dumps(seen))


def compile_all(path: str) -> None:
    """Compile the signatures in a file and call nothing. In a process that `build` starts."""
    functions = {(module, name): each for module, name, each in _functions()}
    for module, name, signatures in _read(Path(path)):
        for signature in signatures:
            functions[module, name].compile(signature)


def _read(path: Path) -> Signatures:
    wanted: Signatures = pickle.loads(path.read_bytes())  # noqa: S301 - `record` wrote it just now
    return wanted


def _functions() -> Iterator[tuple[str, str, Any]]:
    """Yield what `native.compiling.jit` made, with its module and name there."""
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
        [sys.executable, "-c", f"from midstreamer_kernels import ahead; ahead.{call}"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise KernelError(f"compiling for {level} failed: {last}")


def _moved(level: str, found: dict[str, Path], expected: int, folder: Path) -> Made:
    """Move the files of a level into the folder: indices last, as they name the others."""
    mark = f"-{SOURCES_DIGEST}-{instruction_set_of(level, {}).name}."
    names = sorted((name for name in found if mark in name), key=lambda name: name.endswith(".nbi"))
    size = sum(found[name].stat().st_size for name in names)
    count = sum(name.endswith(".nbc") for name in names)
    if count < expected:
        raise KernelError(f"{count} of {expected} signatures were kept for {level}")
    for name in names:
        found[name].replace(folder / name)
    return Made(count, size)
