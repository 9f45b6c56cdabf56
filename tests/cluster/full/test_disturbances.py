"""Every pod and process is ended once under load; no request fails, no stored data is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cluster import cluster_guard
from tests.cluster.outside_trials import Trial
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

AWAY_S = 600.0
"""Seconds for which the operator is stopped; a fleet must work without it for so long."""


def test_no_request_fails_whatever_is_deleted_killed_or_restarted(
    release: Release, tmp_path: Path
) -> None:
    trial = Trial(release, tmp_path)
    acts = ("delete", "kill", "restart") if cluster_guard.made_here() else ("delete",)

    with trial.load():
        trial.disturb("--acts", *acts)

    trial.report()


def test_all_of_the_history_is_decided_as_on_one_machine(release: Release, tmp_path: Path) -> None:
    assert "equal to the bit" in Trial(release, tmp_path).replayed()


def test_ten_minutes_without_an_operator_are_not_felt(release: Release, tmp_path: Path) -> None:
    trial, kubectl = Trial(release, tmp_path), release.kubernetes
    operator = ("deployment", f"{release.name}-operator")

    with trial.load():
        kubectl("scale", *operator, "--replicas=0")
        time.sleep(AWAY_S)
        kubectl("scale", *operator, "--replicas=2")
        release.wait_ready()

    trial.report()
