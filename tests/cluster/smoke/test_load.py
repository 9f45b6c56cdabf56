"""A client from outside: its replay is decided as on one machine, and it feels no deletion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import host
from tests.cluster.releases import Release
from tests.cluster.trials import REPOSITORY, Trial

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PART = ("--stop", "2020-03-01")
REPLAY = [sys.executable, "-m", "tests.cluster.replay"]


def test_decisions_are_equal_to_the_bit_to_those_of_a_local_run(
    release: Release, tmp_path: Path
) -> None:
    trial = Trial(release, tmp_path)
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"

    _run(trial.outside("replay", "fleet", *trial.client_words(), "--write", str(there), *PART))
    _run([*REPLAY, "local", "--write", str(here), *PART])

    host.say(_run([*REPLAY, "compare", str(here), str(there)]))
    assert there.read_text(encoding="utf-8").count("\n") > 100


def test_no_request_fails_and_none_is_slow_while_pods_are_deleted(
    release: Release, tmp_path: Path
) -> None:
    trial = Trial(release, tmp_path)
    kinds = ("agent", "coordinator", "sync", "operator")

    with trial.load():
        trial.disturb("--acts", "delete", "--components", *kinds)

    trial.report()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
