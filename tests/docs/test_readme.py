"""The README's commands exist, and its example runs from tick to signal on real processes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from midstreamer.cli.local_fleet import free_ports
from midstreamer.store.embedded_postgres import EmbeddedServer

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the README's single example in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README))
    assert {"run", "check", "test", "docs", "bench-fleet"} <= named <= targets


def test_it_stays_readable_in_a_few_minutes() -> None:
    prose = re.sub(r"```.*?```|<!-- figures.*?<!-- end -->", "", README, flags=re.DOTALL)
    assert len(prose.split()) < 600


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return environment variables: addresses with free ports, and a PATH with ``midstreamer``."""
    sync, coordinator = (f"127.0.0.1:{port}" for port in free_ports(2))
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "midstreamer").write_text(f'#!/bin/sh\nexec {sys.executable} -m midstreamer "$@"\n')
    (bin_ / "midstreamer").chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "MIDSTREAMER_SYNC__LISTEN": sync,
        "MIDSTREAMER_COORDINATOR__SYNC": sync,
        "MIDSTREAMER_AGENT__SYNC": sync,
        "MIDSTREAMER_COORDINATOR__LISTEN": coordinator,
    }


def started(line: str, tmp_path: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start one line of the shell example without waiting for its end."""
    with (tmp_path / "log").open("ab") as log:
        return subprocess.Popen(
            f"exec {line.removesuffix('&')}", shell=True, cwd=tmp_path, env=environment, stderr=log
        )


@pytest.mark.fleet
@pytest.mark.timeout(300)
def test_the_example_goes_from_ticks_to_signals(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    lines = block("sh").splitlines()
    for line in lines:
        if not line.endswith("&"):
            subprocess.run(line, shell=True, cwd=tmp_path, env=environment, check=True, timeout=60)
    services = [started(line, tmp_path, environment) for line in lines if line.endswith("&")]
    code = block("python").replace(
        'directory="var/certs"',
        f'"{environment["MIDSTREAMER_COORDINATOR__LISTEN"]}", directory="var/certs",'
        " deadline_s=120",
    )
    try:
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False,
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
    finally:
        for service in reversed(services):
            service.terminate()
            service.wait(60)
        asyncio.run(EmbeddedServer(tmp_path / "var/store").erase())
    assert ran.stderr == "", (tmp_path / "log").read_text()[-2000:]
    assert re.search(r"^\d+ (LONG|SHORT) \d+% [+-]\d\.\d\d$", ran.stdout, re.MULTILINE)
