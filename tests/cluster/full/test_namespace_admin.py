"""A user with the role `admin` in one namespace installs a fleet.

Only one step needs the cluster's administrator: to install the chart `midstreamer-cluster` before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster import cluster_guard, commands_here
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import CHART, READY_S_MAX, Release
from tests.cluster.smoke.test_helm_test import AGREES
from tools.docs.chart_files import CLUSTER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ANN = "ann"
WIDE = "midstreamer-cluster"


@pytest.fixture
def release(kubernetes: Kubernetes) -> Iterator[Release]:
    """Install the chart `midstreamer-cluster` as administrator; return a release for Ann.

    The release is not installed yet: a test installs it as the user Ann.
    """
    prepared = Release(kubernetes, values={"cluster": {"create": False}})
    installations = [{"namespace": prepared.namespace, "release": prepared.name}]
    words = ["upgrade", "--install", WIDE, str(CLUSTER), "--namespace", "kube-system"]
    # Another test may have left the CustomResourceDefinition of AgentPool. With this option, Helm
    # makes it part of this release instead of failing.
    owned = (*words, "--take-ownership", "--values", "-")
    commands_here.run(
        [cluster_guard.helm(), *owned], stdin=json.dumps({"installations": installations})
    )
    kubernetes("create", "rolebinding", ANN, "--clusterrole=admin", f"--user={ANN}")
    if cluster := cluster_guard.made_here():
        prepared.volume(cluster)
    try:
        yield prepared
    finally:
        prepared.uninstall()
        commands_here.run(
            [cluster_guard.helm(), "uninstall", WIDE, "--namespace", "kube-system", "--wait"]
        )


def as_ann(release: Release, verb: str, *words: str, stdin: str = "") -> str:
    """Run Helm as the user Ann on her release, return its output; raises KitError."""
    about = [release.name, *words, "--namespace", release.namespace, "--kube-as-user", ANN]
    return commands_here.run([cluster_guard.helm(), verb, *about], stdin=stdin)


def test_admin_of_one_namespace_is_enough(release: Release) -> None:
    began_s = time.monotonic()
    ready = ("--wait", f"--timeout={READY_S_MAX:g}s", "--values", "-")
    as_ann(release, "install", str(CHART), *ready, stdin=release.given())
    took_s, lacking = time.monotonic() - began_s, release.lacking()

    began_s = time.monotonic()
    output = as_ann(release, "test", "--logs", "--timeout=60s")

    tested_s = time.monotonic() - began_s
    commands_here.say(f"helm install --wait took {took_s:.1f} s, helm test {tested_s:.1f} s")
    assert AGREES in output
    assert lacking == []
    assert took_s < READY_S_MAX
