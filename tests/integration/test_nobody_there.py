"""A verb that asks a fleet says soon that nobody is there: a wrong address is a common mistake."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from midstreamer.cli import main
from midstreamer.cli.local import free_ports
from tests.support.client import a_csv

pytestmark = pytest.mark.integration

SAID_WITHIN_S = 3.0
ROWS = [f"2020-01-{day:02d},a,{day}" for day in range(1, 10)]


@pytest.mark.parametrize("verb", [["status"], ["match", "prices.csv", "--window", "8"]])
def test_nobody_there_is_said_within_3_s_with_the_address_and_what_to_do(
    verb: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    a_csv(tmp_path / "prices.csv", *ROWS)
    (port,) = free_ports(1, datagram=True)
    monkeypatch.setenv("MIDSTREAMER_CLIENT__ADDRESSES", f'["127.0.0.1:{port}"]')
    assert main.execute(["certs", "init"]) == main.execute(["certs", "issue", "client/local"]) == 0
    began_s = time.monotonic()
    assert main.execute(verb) == 1
    assert time.monotonic() - began_s < SAID_WITHIN_S
    said = capsys.readouterr().err
    assert said.startswith(f"error[deadline]: no coordinator at 127.0.0.1:{port} within 1.2 s")
    assert "start the fleet (`midstreamer run`)" in said
