"""Fill /opt/midstreamer of an image; runs as root inside a build.

    python3 install.py base         a virtual environment without pip, and bytecode of Python itself
    python3 install.py wheels NAME  the packages that the lock file `made/NAME.txt` pins
    python3 install.py kernels      bytecode of the kernels, and their machine code compiled ahead
    python3 install.py sources      bytecode of our other packages, and their commands

Only wheels from /tmp/wheels with the hashes of the lock file are installed, without network.  Files
that a running process never reads are removed.  Python uses the bytecode without comparing file
times (it is "unchecked"), because image layers round file times to seconds.
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
TOOLS = Path("/tmp/tools")  # noqa: S108 - mounted there too
AHEAD_FOR = "x86_64"
"""Architecture for which the kernels are compiled ahead, as ``uname -m`` prints it."""
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH
FOLDERS = ("tests", "include", "pkgconfig", "pgxs", "__pycache__")
"""Names of folders that are removed from packages."""
SUFFIXES = frozenset({".a", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx"})
"""Suffixes of files that are removed from packages."""
STALE = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})
"""Files in which pip describes its installation of a package.

They are removed, because they are no longer true when `shrink` has removed files of the package.
"""


def base() -> None:
    """Create the virtual environment, and compile Python's library to bytecode.

    The base image has no bytecode: Debian packages compile it in their install scripts, but these
    scripts do not run when the base image is made.
    """
    venv.create(TOP, symlinks=True, with_pip=False)
    for path in (TOP / "bin").glob("[Aa]ctivate*"):
        path.unlink()
    skipped = re.compile(r"/(test|tests|site-packages|dist-packages)/")
    library = sysconfig.get_path("stdlib")
    compileall.compile_dir(library, quiet=2, workers=2, rx=skipped, invalidation_mode=UNCHECKED)


def wheels(name: str) -> None:
    """Install the packages of a lock file; they are shrunk in a temporary folder first."""
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
    """Compile the kernels to bytecode, and those for searches also to machine code.

    The machine code is for every processor level that the kernels know, also for levels that this
    machine lacks. It is made only on x86-64.
    """
    make_bytecode(site() / "midstreamer_kernels")
    (TOP / "ahead").mkdir()
    if platform.machine() == AHEAD_FOR:
        words = ["-m", "midstreamer_kernels", "ahead", str(TOP / "ahead"), "--searches"]
        subprocess.run([TOP / "bin/python", *words], check=True)  # noqa: S603


def sources() -> None:
    """Compile our own sources to bytecode, and make the commands executable for all users."""
    for name in ("midstreamer", "midstreamer_operator", "loadtests"):
        if (site() / name).is_dir():
            make_bytecode(site() / name)
    for path in (TOP / "bin").glob("midstreamer*"):
        path.chmod(0o755)


def site() -> Path:
    """Return the folder site-packages of the virtual environment."""
    return next((TOP / "lib").glob("python3*/site-packages"))


def shrink(folder: Path) -> None:
    """Remove tests, headers, type stubs and commands of packages from a folder."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_dir() and path.name in FOLDERS:
            shutil.rmtree(path)
        elif path.is_file() and unused(path):
            path.unlink()


def unused(path: Path) -> bool:
    """Return whether no running process ever needs the file, judged by its name."""
    stale = path.parent.name.endswith(".dist-info") and path.name in STALE
    return stale or path.suffix in SUFFIXES


def make_bytecode(folder: Path) -> None:
    """Compile a folder to bytecode that names the final paths; exit with 1 if this fails.

    The final paths are those in the image, where the folder is moved later.
    """
    place = folder if folder.is_relative_to(TOP) else site()
    if not compileall.compile_dir(
        folder, quiet=1, workers=2, stripdir=str(folder), prependdir=str(place),
        invalidation_mode=UNCHECKED,
    ):  # fmt: skip
        sys.exit(f"install: files in {folder} do not compile, see above")


def main(words: list[str]) -> None:
    """Run the step that the command line names."""
    if words[0] == "wheels":
        wheels(words[1])
    else:
        {"base": base, "kernels": kernels, "sources": sources}[words[0]]()


if __name__ == "__main__":
    main(sys.argv[1:])
