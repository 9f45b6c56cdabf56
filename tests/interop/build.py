"""Builds the clients on quic-go and quinn below `.cache/interop`: `python -m tests.interop.build`.

Dependencies of both are pinned with hashes: Go's by go.sum, Rust's by pinned.lock. The file
pinned.lock is a Cargo.lock without the lines that name the registry, because the repository must
not contain the address of a registry. The build gets these lines from a Cargo.lock that cargo
writes, adds them to the content of pinned.lock, and builds with the result.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = Path(os.environ.get("INTEROP_BUILD") or HERE.parents[1] / ".cache/interop").absolute()
CLIENTS = ("quic-go", "quinn")
COMPILERS = {"quic-go": "go", "quinn": "cargo"}
_SOURCE = re.compile(r'^source = ".*"\n', re.MULTILINE)
_PINNED = re.compile(r'^(version = ".*"\n)(checksum = )', re.MULTILINE)


def missing(client: str) -> str:
    """Return why a client cannot be built here, as a sentence; empty when it can."""
    compiler = COMPILERS[client]
    if shutil.which(compiler):
        return ""
    return f"the client on {client} is not built, because `{compiler}` is not installed"


def binary(client: str) -> Path:
    """Return the path of a built client."""
    return BUILD / client / "client"


def build(client: str) -> Path:
    """Build a client and return its path; the compilers rebuild only what has changed."""
    binary(client).parent.mkdir(parents=True, exist_ok=True)
    {"quic-go": _with_go, "quinn": _with_cargo}[client](binary(client))
    return binary(client)


def _with_go(target: Path) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    command = ["go", "build", "-p", "1", "-trimpath", "-mod=readonly", "-o", str(target), "."]
    subprocess.run(command, cwd=HERE / "quic-go", env=environment, check=True)


def _with_cargo(target: Path) -> None:
    sources, place = HERE / "quinn", target.parent
    shutil.copy(sources / "Cargo.toml", place)
    shutil.copytree(sources / "src", place / "src", dirs_exist_ok=True)
    _write_lock(sources / "pinned.lock", place)
    command = ["cargo", "build", "--release", "--locked", "--jobs", "1", "--quiet"]
    subprocess.run([*command, "--target-dir", str(place / "target")], cwd=place, check=True)
    shutil.copy(place / "target/release/interop", target)


def _write_lock(pinned: Path, place: Path) -> None:
    lock = place / "Cargo.lock"
    if not lock.exists():
        subprocess.run(["cargo", "generate-lockfile", "--quiet"], cwd=place, check=True)
    source = _SOURCE.search(lock.read_text(encoding="utf-8"))
    if source is None:
        raise RuntimeError(
            f"{lock} names no package (no line `source = ...`): remove the file and build again"
        )
    text = pinned.read_text(encoding="utf-8")
    lock.write_text(_PINNED.sub(rf"\g<1>{source[0]}\g<2>", text), encoding="utf-8")


def main() -> None:
    """Build each client whose compiler is installed; for the rest print why they are not built."""
    for client in CLIENTS:
        try:
            sys.stdout.write(f"{missing(client) or f'built {build(client)}'}\n")
        except subprocess.CalledProcessError as error:
            sys.exit(f"the client on {client} could not be built, for the reason above: {error}")


if __name__ == "__main__":
    main()
