"""No file of the repository contains what must never be in it.

Examples are keys, the hosts of registries, and paths that exist on one machine only.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LARGEST_BYTES = 300_000

# Each pattern contains a character class, so that it does not match its own text in this file.
KEY_MATERIAL = re.compile(
    rb"-----[B]EGIN [A-Z ]*(PRIVATE KEY|CERTIFICATE)-----\s*\n[A-Za-z0-9+/=\s]{60,}"
)
TOKENS = re.compile(rb"\b(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[bap]-[0-9A-Za-z-]{10,})\b")
REGISTRIES = re.compile(
    rb"p[y]pi\.org|[p]ythonhosted|n[p]mjs\.|registry[.](?!example\b)[a-z0-9-]+[.]|[a]rtifactory"
    rb"|--[i]ndex-url|--[f]ind-links\W+\w+:/|[c]rates\.io/api|[p]roxy\.golang"
)
ONE_MACHINE = re.compile(rb"/[r]oot/|/[h]ome/\w|/[w]ork/|/opt/[w]heels|\.[p]yenv")
FORBIDDEN = {
    "key material": KEY_MATERIAL,
    "tokens": TOKENS,
    "registries": REGISTRIES,
    "paths of one machine": ONE_MACHINE,
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [TOP / name for name in listed.stdout.decode().split("\0") if (TOP / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds_what_is_forbidden(what: str) -> None:
    pattern = FORBIDDEN[what]
    assert [str(path) for path in tracked() if pattern.search(path.read_bytes())] == []


def test_no_key_or_certificate_file_is_tracked() -> None:
    suffixes = {".pem", ".key", ".crt", ".p12", ".pfx", ".jks"}
    assert [str(path) for path in tracked() if path.suffix in suffixes] == []


def test_no_data_set_and_no_large_file_is_tracked() -> None:
    # Lock files hold a hash of every wheel of every library, so they may be large.
    locks = set((TOP / "requirements").glob("*.txt"))
    others = [path for path in tracked() if path not in locks]
    large = [path for path in others if path.stat().st_size > LARGEST_BYTES]
    assert [str(path) for path in large] == []
    assert [path for path in tracked() if path.suffix in {".parquet", ".gz", ".zip", ".whl"}] == []


def test_every_requirement_is_locked_with_its_hash() -> None:
    for lock in (TOP / "requirements").glob("*.txt"):
        entries = re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8").strip())
        assert entries
        assert all("==" in entry and "--hash=sha256:" in entry for entry in entries), lock.name


def test_every_package_of_the_clients_on_other_libraries_is_locked_with_its_hash() -> None:
    pinned = (TOP / "tests/interop/quinn/pinned.lock").read_text(encoding="utf-8")
    packages = pinned.split("[[package]]")[1:]
    assert [
        each for each in packages if "checksum = " not in each and '"interop"' not in each
    ] == []
    required = (TOP / "tests/interop/quic-go/go.mod").read_text(encoding="utf-8")
    hashed = (TOP / "tests/interop/quic-go/go.sum").read_text(encoding="utf-8")
    modules = re.findall(r"^\s+(\S+ v\S+)", required, re.MULTILINE)
    assert [each for each in modules if f"{each} h1:" not in hashed] == []


def test_top_level_folders_are_not_packages() -> None:
    folders = ("services", "kernels", "operator", "tests", "docs", "benchmarks", "loadtests")
    assert [name for name in folders if (TOP / name / "__init__.py").exists()] == []
