"""Fixtures: every test of this folder runs with each client that `make interop` has built."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.interop import build
from tests.support.identity_builders import Installation
from tests.support.interop import ForeignClient, Ports, running

NOTES: pytest.StashKey[list[str]] = pytest.StashKey()
"""Lines about the measurements of this run, which pytest prints at the end."""


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    return request.config.stash.setdefault(NOTES, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the measurements of the run."""
    for line in config.stash.get(NOTES, []):
        terminalreporter.write_line(line)


@pytest.fixture(params=build.CLIENTS)
def client_name(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if why := build.missing(name):
        pytest.skip(why)
    if not build.binary(name).exists():
        pytest.skip(f"the client on {name} is not built yet: `make interop` builds it")
    return name


@pytest.fixture
async def client(client_name: str) -> AsyncIterator[ForeignClient]:
    async with running(build.binary(client_name)) as started:
        yield started


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "certs")


@pytest.fixture
def ports(place: Installation, tmp_path: Path) -> Ports:
    return Ports(place, tmp_path)
