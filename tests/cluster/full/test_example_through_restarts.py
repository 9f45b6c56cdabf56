"""The example sends 50 matches a second while every pod of the fleet ends; no request fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import (
    cluster_guard,
    commands_here,
    disturbance_report,
    example_application,
    load_judgement,
)
from tests.cluster.conftest import a_namespace
from tests.cluster.outside_trials import Trial
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

WITHIN_S = 90.0
FEW = 5
LIMIT_S = load_judgement.Kind.CRASH.limit_s
"""The greatest permitted latency of a request, in seconds.

It is generous, because the example shares the machine with the fleet; `test_disturbances` has the
strict limits.
"""
CALM_S = 20.0
SERIES = 16
SHARE = 0.8
"""The least share of the planned rate that the example must reach without disturbances."""


@pytest.fixture(scope="module")
def app() -> Iterator[Kubernetes]:
    """Return kubectl in the namespace of an application."""
    with a_namespace() as kubectl:
        yield kubectl


def test_no_request_of_the_example_fails_while_every_pod_of_the_fleet_is_deleted_and_killed(
    app: Kubernetes, release: Release, tmp_path: Path
) -> None:
    acts = ("delete", "kill") if cluster_guard.made_here() else ("delete",)
    trial = Trial(release, tmp_path)
    example_application.let_in(release, app)
    example_application.label(app, release)
    example_application.deployed(app, release, SERIES)
    commands_here.until(
        "the example gets decisions",
        lambda: example_application.decisions(app) >= FEW,
        timeout_s=WITHIN_S,
    )
    before = example_application.restarts(app)  # the example restarts until the fleet admits it

    trial.disturb("--acts", *acts, "--calm-s", f"{CALM_S:g}")

    lines = app("logs", "deployment/app", "--timestamps").splitlines()
    requests = example_application.requests(lines)
    begun_s = requests[0].due_s
    calm = [each for each in requests if each.what == "match" and each.due_s - begun_s < CALM_S]
    rows = load_judgement.rows(disturbance_report.happened(trial.events_file), requests, LIMIT_S)
    commands_here.say(f"{len(calm) / CALM_S:.1f} matches a second without disturbances")
    commands_here.say(load_judgement.plain(rows))
    assert load_judgement.broken(rows, len(requests)) == []
    assert example_application.restarts(app) == before
    assert not [line for line in lines if "error[" in line]
    assert len(calm) >= SHARE * example_application.PER_SECOND * CALM_S
