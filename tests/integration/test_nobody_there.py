"""A command with a wrong address reports within seconds that no fleet answers there."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from midstreamer.cli import main
from midstreamer.cli.local_fleet import free_ports
from tests.support.client_builders import a_csv

pytestmark = pytest.mark.integration

SAID_WITHIN_S = 3.0
ROWS = [f"2020-01-{day:02d},a,{day}" for day in range(1, 10)]


def asked(words: list[str], port: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """Run a command that must fail; return the seconds that it took."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("MIDSTREAMER_CLIENT__ADDRESSES", f'["127.0.0.1:{port}"]')
    a_csv(place / "prices.csv", *ROWS)
    assert main.execute(["certs", "init"]) == main.execute(["certs", "issue", "client/local"]) == 0
    began_s = time.monotonic()
    assert main.execute(words) == 1
    return time.monotonic() - began_s


@pytest.mark.parametrize("verb", [["status"], ["match", "prices.csv", "--window", "8"]])
def test_nobody_there_is_said_within_3_s_with_the_address_and_what_to_do(
    verb: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (port,) = free_ports(1)
    assert asked(verb, port, tmp_path, monkeypatch) < SAID_WITHIN_S
    error = capsys.readouterr().err
    assert error.startswith(f"error[unavailable]: no coordinator at 127.0.0.1:{port}: ")
    assert "start the fleet (`midstreamer run`)" in error


def test_somebody_who_never_answers_is_told_within_3_s_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert asked(["status"], port, tmp_path, monkeypatch) < SAID_WITHIN_S
    error = capsys.readouterr().err
    assert f"no coordinator at 127.0.0.1:{port} within 1.2 s" in error
