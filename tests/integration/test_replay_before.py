"""A replay of the shipped data gives the previous version's decisions, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import midstreamer
from midstreamer.market import datasets
from tests.support import previous_version, replay_program

pytestmark = pytest.mark.integration
RECORDED = Path(__file__).parents[1] / "recorded" / "replay.json"
"""Output of ``python -P tests/support/replay_program.py`` with the previous version."""
REPLAY_S = 120


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    """Replay the shipped data with this version in a new process; return the printed hashes."""
    for dataset, *_ in replay_program.PARTS.values():
        if not (datasets.folder() / dataset.file).is_file():
            pytest.skip("the data sets are not in the cache")
    return _replayed(str(Path(midstreamer.__file__).parents[1]))


def _replayed(packages: str) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-P", replay_program.__file__], timeout=REPLAY_S, capture_output=True,
        text=True, env=os.environ | {"PYTHONPATH": packages},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_decisions_verdicts_and_states_are_those_of_the_version_before(now: dict[str, Any]) -> None:
    assert now == _replayed(previous_version.environment()["PYTHONPATH"])


def test_decisions_verdicts_and_states_are_those_recorded(now: dict[str, Any]) -> None:
    # If only this test fails, this machine rounds a logarithm or a sum differently from the machine
    # that recorded the file.
    assert now == json.loads(RECORDED.read_text())


def test_the_replay_holds_signals_and_verdicts(now: dict[str, Any]) -> None:
    assert now["load"]["counts"]["emitted"] > 100
    assert all(part["counts"]["verdicts"] > 400 for part in now.values())
