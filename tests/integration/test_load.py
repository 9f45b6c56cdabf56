"""`make load`: a small load on a local fleet, from the first handshake to the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(400)]

ASKED = {"append", "handshake", "lookup", "match", "reconnect", "refusal", "survey"}
SHAPE = {
    "stages": [{"seconds": 5, "begin": 20, "end": 20}],
    "users": 6,
    "reconnects_per_s": 1.0,
    "slow_share": 0.2,
}


def loaded(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    shape, answer = tmp_path / "shape.json", tmp_path / "answer.json"
    shape.write_text(json.dumps(SHAPE), "utf-8")
    path = os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [
            sys.executable, "-m", "loadtests", "--shape", str(shape), "--json", str(answer),
            *arguments,
        ],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=350,
    )  # fmt: skip
    report = json.loads(answer.read_text("utf-8")) if answer.exists() else None
    return ended, report


def test_a_small_load_asks_everything_and_nothing_fails(tmp_path: Path) -> None:
    mix = "append=4,match=4,lookup=4,survey=4,refusal=4"
    ended, report = loaded(tmp_path, "--mix", mix)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert report["users"] == 6
    assert set(report["requests"]) == ASKED | {"sdk.append", "sdk.match"}
    assert not report["broken"]
    assert report["transport"]["links"] >= 6
    assert 0 < report["transport"]["rtt_p50_s"] < 5
    assert report["processors"] > 0
    assert {"sync", "coordinator", "agent-1", "agent-2"} <= set(report["servers"])
    assert "thresholds met: failures<=0%" in ended.stdout


def test_a_threshold_that_is_not_held_ends_it_with_1_and_a_line(tmp_path: Path) -> None:
    ended, report = loaded(tmp_path, "--threshold", "lookup.p50<=0.001ms", "--no-sdk")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert report["broken"]
    assert "EXCEEDED: lookup.p50<=0.001ms" in ended.stdout


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path) -> None:
    for arguments in (["--mix", "fly=1"], ["--threshold", "fast"], ["--shape", "nonsense"]):
        ended, _ = loaded(tmp_path, *arguments)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") <= 3, ended.stderr
        assert "error[bad_input]" in ended.stderr
