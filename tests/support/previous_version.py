"""Builds the previous version from git, so that tests can run its processes.

`tests/version-before` pins the commit. Both wheels are built offline with hatchling and unpacked
into ``.before/<commit>-<python>`` at the root of the checkout. That happens once, under a lock, and
takes a few seconds. To run a process of that version, start ``sys.executable -m midstreamer …``
with the variables of `environment`. They set PYTHONPATH, where Python looks first, so the process
imports the previous version and not the checkout.

numba keeps machine code beside the sources, so the previous version has its own compiled kernels.
If both versions have the same kernel sources, this module copies the compiled code of the checkout.
Otherwise it compiles the kernels once, so that no later process has to compile them.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import midstreamer_kernels

ROOT = Path(__file__).resolve().parents[2]
PINNED = ROOT / "tests" / "version-before"
BUILT = ROOT / ".before"
PARTS = ("kernels", "services")
BUILD_S, COMPILE_S = 120, 300
PROBE = """
try:
    from midstreamer_kernels.native.jit_decorators import SOURCES_DIGEST
except ImportError:  # the previous version has `SOURCES_DIGEST` in this module:
    from midstreamer_kernels.native.compiling import SOURCES_DIGEST
print(SOURCES_DIGEST)
"""


def commit() -> str:
    """Return the pinned commit of the previous version."""
    return PINNED.read_text(encoding="ascii").strip()


@functools.cache
def unpacked() -> Path:
    """Return the folder with the previous version's packages; build it if it is missing."""
    folder = BUILT / f"{commit()}-py{sys.version_info.major}{sys.version_info.minor}"
    if not folder.exists():
        BUILT.mkdir(exist_ok=True)
        with _alone(BUILT / "lock"):
            # Another process may have built the folder while this process waited for the lock.
            if not folder.exists():
                _make(folder)
    return folder


def environment() -> dict[str, str]:
    """Return the environment variables that a process of the previous version needs."""
    return {"PYTHONPATH": str(unpacked())}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path) -> None:
    """Build in a temporary folder and rename it, so that no process finds an unfinished build."""
    with tempfile.TemporaryDirectory(dir=BUILT) as temporary:
        sources, packages = Path(temporary, "sources"), Path(temporary, "packages")
        export(commit(), sources)
        for part in PARTS:
            _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", temporary],
                 sources / part, BUILD_S)  # fmt: skip
        for wheel in sorted(Path(temporary).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(packages)
        _give_machine_code(packages)
        packages.rename(folder)


def export(revision: str, target: Path, *, root: Path = ROOT) -> None:
    """Write the files of a commit to ``target``; LookupError when the clone lacks it."""
    archive = subprocess.run(
        ["git", "-c", "safe.directory=*", "archive", "--format=tar", revision, *PARTS],
        cwd=root,
        capture_output=True,
    )
    if archive.returncode:
        raise LookupError(
            f"commit {revision}, the version before (tests/version-before), is not in the clone"
            f" {root}: git says {archive.stderr.decode().strip()!r}. A shallow clone lacks it: run"
            " `git fetch --unshallow`, or check out with fetch-depth: 0 in CI"
        )
    target.mkdir(parents=True)
    with tempfile.TemporaryFile() as file:
        file.write(archive.stdout)
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            tar.extractall(target, filter="data")


def _give_machine_code(packages: Path) -> None:
    """Give the previous version its compiled kernels: copy or compile them.

    If both versions have the same kernel sources, copy the compiled kernels of this checkout.
    Compile what was not copied.
    """
    here = Path(midstreamer_kernels.__file__).parent
    target = packages / "midstreamer_kernels"
    if _sources_digest(here.parent) == _sources_digest(packages):
        for code in here.rglob("*.nb[ic]"):
            _copy_code(code, target / code.relative_to(here))
    # The command compiles only the functions whose machine code is missing.
    words = [sys.executable, "-m", "midstreamer_kernels", "warm", "--searches"]
    _run(words, packages, COMPILE_S, PYTHONPATH=str(packages))


def _copy_code(code: Path, target: Path) -> None:
    """Copy a file of numba's cache to the previous version.

    numba uses a cached file only if its source file has the recorded modification time. So the
    copy's source file gets the modification time of the original's source file.
    """
    target.parent.mkdir(exist_ok=True)
    shutil.copy2(code, target)
    name = f"{code.name.partition('.')[0]}.py"
    shutil.copystat(code.parent.parent / name, target.parent.parent / name)


def _sources_digest(packages: Path) -> str:
    """Return the digest of the kernel sources in a folder; equal sources share machine code."""
    words = [sys.executable, "-c", PROBE]
    return _run(words, packages, BUILD_S, PYTHONPATH=str(packages)).strip()


def _run(words: list[str], folder: Path, within_s: float, **environment: str) -> str:
    ended = subprocess.run(
        words, cwd=folder, env=os.environ | environment, timeout=within_s,
        capture_output=True, text=True,
    )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(
            f"building the version before: {' '.join(words)} in {folder} ended with"
            f" {ended.returncode}: {(ended.stderr or ended.stdout).strip()}"
        )
    return ended.stdout
