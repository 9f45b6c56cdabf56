"""Runs inside of a build, as root, and fills /opt/midstreamer of an image.

    python3 install.py base         an environment without pip, and bytecode of Python itself
    python3 install.py wheels NAME  what the lock `made/NAME.txt` pins
    python3 install.py kernels      bytecode of the kernels, and their code compiled ahead
    python3 install.py sources      bytecode of what was copied besides, and its commands

Only wheels from /tmp/wheels with the hashes of the lock are taken, and there is no network. What a
running process never reads is dropped. Bytecode is never checked against a time again, as layers
keep whole seconds.
"""

from __future__ import annotations

import compileall
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

TOP = Path("/opt/midstreamer")
WHEELS = Path("/tmp/wheels")  # noqa: S108 - mounted there by the Containerfile
TOOLS = Path("/tmp/tools")  # noqa: S108 - likewise
AHEAD_FOR = "x86_64"
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH
FOLDERS = ("tests", "include", "pkgconfig", "pgxs", "__pycache__")
SUFFIXES = frozenset({".a", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx"})
STALE = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})
"""Of a package's metadata, what is no longer true of it."""


def base() -> None:
    """Make the environment, and compile Python itself: in a base no package's script has run."""
    venv.create(TOP, symlinks=True, with_pip=False)
    for path in (TOP / "bin").glob("[Aa]ctivate*"):
        path.unlink()
    skipped = re.compile(r"/(test|tests|site-packages|dist-packages)/")
    library = sysconfig.get_path("stdlib")
    compileall.compile_dir(library, quiet=2, workers=2, rx=skipped, invalidation_mode=UNCHECKED)


def wheels(name: str) -> None:
    """Install what a lock pins, shrunk elsewhere first."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "made")
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-cache-dir", "--root-user-action=ignore", "--no-index", "--no-deps",
            "--find-links", str(WHEELS), "--require-hashes", "--no-compile",
            "--target", str(folder), "--requirement", str(TOP / "made" / f"{name}.txt"),
        ]  # fmt: skip
        pip = next((TOOLS / "lib").glob("python3*/site-packages"))
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(pip)})  # noqa: S603
        shrink(folder)
        make_bytecode(folder)
        shutil.copytree(folder, site(), symlinks=True, dirs_exist_ok=True)


def kernels() -> None:
    """Compile the kernels ahead for each level, whichever this machine has."""
    make_bytecode(site() / "midstreamer_kernels")
    (TOP / "ahead").mkdir()
    if platform.machine() == AHEAD_FOR:
        words = ["-m", "midstreamer_kernels", "ahead", str(TOP / "ahead"), "--searches"]
        subprocess.run([TOP / "bin/python", *words], check=True)  # noqa: S603


def sources() -> None:
    """Compile our own sources, and let everybody run the commands."""
    for name in ("midstreamer", "midstreamer_operator", "loadtests"):
        if (site() / name).is_dir():
            make_bytecode(site() / name)
    for path in (TOP / "bin").glob("midstreamer*"):
        path.chmod(0o755)


def site() -> Path:
    """Return where packages are."""
    return next((TOP / "lib").glob("python3*/site-packages"))


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
    """Compile all in a folder, for where it will be; ends with 1 when a file cannot be compiled."""
    place = folder if folder.is_relative_to(TOP) else site()
    if not compileall.compile_dir(
        folder, quiet=1, workers=2, stripdir=str(folder), prependdir=str(place),
        invalidation_mode=UNCHECKED,
    ):  # fmt: skip
        sys.exit(f"install: some of {folder} cannot be compiled, see above")


def main(words: list[str]) -> None:
    """Do what the words say."""
    if words[0] == "wheels":
        wheels(words[1])
    else:
        {"base": base, "kernels": kernels, "sources": sources}[words[0]]()


if __name__ == "__main__":
    main(sys.argv[1:])
