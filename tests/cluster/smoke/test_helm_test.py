"""`helm test` stores ticks and finds the expected windows, also when it is run a second time."""

from __future__ import annotations

import pytest

from tests.cluster import cluster_guard, commands_here
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster]

AGREES = "900 ticks are stored, and the 12 nearest windows are the expected ones"


def the_logs(release: Release) -> str:
    """Run `helm test` and return its output; raises KitError with its error output."""
    words = ["test", release.name, "--namespace", release.namespace]
    return commands_here.run([cluster_guard.helm(), *words, "--logs", "--timeout", "120s"])


def test_it_is_green_as_often_as_it_runs(release: Release) -> None:
    assert AGREES in the_logs(release)
    assert AGREES in the_logs(release)
