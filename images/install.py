"""Runs inside of a build: puts wheels of one lock, or our own packages, where images have them.

    python install.py wheels LOCK FOLDER
    python install.py compile FOLDER
    python install.py base FOLDER      an environment in FOLDER, and bytecode of Python itself

Only wheels from /wheels with the hashes of the lock are taken, and there is no network. What a
running process never reads is dropped. Bytecode is made here and never checked against a time
again, as layers keep whole seconds.
"""

from __future__ import annotations

import compileall
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

WHEELS = "/wheels"
FOLDERS = ("tests", "include", "pkgconfig", "__pycache__")
SUFFIXES = frozenset({".a", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx"})
STALE = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})
"""Of a package's metadata, what is no longer true of it."""


def wheels(lock: Path, folder: Path) -> None:
    """Install what a lock pins; an empty lock gives an empty folder."""
    folder.mkdir(parents=True)
    if not lock.read_text(encoding="utf-8").strip():
        return
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-cache-dir", "--root-user-action=ignore", "--no-index", "--find-links", WHEELS,
        "--require-hashes", "--no-deps", "--no-compile", "--target", str(folder),
        "--requirement", str(lock),
    ]  # fmt: skip
    subprocess.run(command, check=True)  # noqa: S603 - this very Python
    shrink(folder)
    make_bytecode(folder)


def shrink(folder: Path) -> None:
    """Drop tests, headers, stubs, and the commands of packages."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_dir() and path.name in FOLDERS:
            shutil.rmtree(path)
        elif path.is_file() and unused(path):
            path.unlink()


def unused(path: Path) -> bool:
    """Whether a file is of no use to a process that runs, by its name."""
    stale = path.parent.name.endswith(".dist-info") and path.name in STALE
    return stale or path.suffix in SUFFIXES


def make_bytecode(folder: Path) -> None:
    """Compile what is in a folder; ends with 1 when a file cannot be compiled."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(folder, quiet=1, workers=2, invalidation_mode=mode):
        sys.exit(f"install: some of {folder} cannot be compiled, see above")


def base(folder: Path) -> None:
    """Make an environment without pip, and compile Python itself: no package's script did."""
    venv.create(folder, symlinks=True, with_pip=False)
    for path in (folder / "bin").glob("[Aa]ctivate*"):
        path.unlink()
    skipped = re.compile(r"/(test|tests|site-packages|dist-packages)/")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    library = sysconfig.get_path("stdlib")
    compileall.compile_dir(library, quiet=2, workers=2, rx=skipped, invalidation_mode=mode)


def main(arguments: list[str]) -> None:
    """Do what the two or three words say."""
    if arguments[0] == "wheels":
        wheels(Path(arguments[1]), Path(arguments[2]))
    elif arguments[0] == "base":
        base(Path(arguments[1]))
    else:
        make_bytecode(Path(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
