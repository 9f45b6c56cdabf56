"""A client outside the cluster gets the same decisions as a local run.

No request fails while pods are deleted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.outside_trials import Trial
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_decisions_are_equal_to_the_bit_to_those_of_a_local_run(
    release: Release, tmp_path: Path
) -> None:
    output = Trial(release, tmp_path).replayed("--stop", "2020-03-01")

    assert "1500 decisions and verdicts, equal to the bit" in output


def test_no_request_fails_and_none_is_slow_while_pods_are_deleted(
    release: Release, tmp_path: Path
) -> None:
    trial = Trial(release, tmp_path)
    kinds = ("agent", "coordinator", "sync", "operator")

    with trial.load():
        trial.disturb("--acts", "delete", "--components", *kinds)

    trial.report()
