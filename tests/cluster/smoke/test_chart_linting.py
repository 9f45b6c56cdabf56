"""kubeconform and kube-score find no errors in the renders of the charts' example values."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cluster import cluster_guard, commands_here, monitoring, releases, renders, schemas
from tests.cluster.pods import Kubernetes

BUILD_S = 900
"""Seconds for the first test, which compiles kubeconform and kube-score if they are not built."""

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(BUILD_S)]

MONITORED = {
    f"monitoring-{way}": {
        "monitoring": {kind: {"enabled": True} for kind in (way, "rules", "dashboards")}
    }
    for way in ("podMonitor", "serviceMonitor")
}
"""Values for two more renders: each enables rules, dashboards and one kind of monitor.

No file of example values enables rules or dashboards. If one did, its recorded render would change
whenever a rule or dashboard changes.
"""
NOT_SCORED = {
    "container-image-pull-policy": "a digest, or a tag with the hash of the content, never changes",
    "container-ephemeral-storage-request-and-limit": "the root is read-only and /tmp is a volume "
    "with a bound; a limit would evict pods for the logs that the kubelet rotates",
    "deployment-has-host-podantiaffinity": "topologySpreadConstraints do it, and let pods start "
    "where there are fewer nodes than pods",
    "statefulset-has-host-podantiaffinity": "as for deployment-has-host-podantiaffinity",
    "networkpolicy-targets-pod": "agents are made by the operator from an AgentPool, and so are "
    "not in the render; full/test_each_network_rule.py shows that each rule is needed",
}
"""The checks of kube-score that are ignored for every example, and the reasons."""
OF_EXAMPLE = {
    "kind": {
        "deployment-replicas": "one of each, for a cluster on one machine",
        "container-image-tag": "images are loaded into its nodes under this tag",
        "service-type": "there is no balancer",
    },
    "openshift": {
        "container-security-context-user-group-id": "the cluster chooses the user",
        "pod-probes": "the Service for metrics selects the pod of `helm test` as well, which has "
        "no port of its name and so is not in it",
    },
}
"""The checks of kube-score that are ignored for one example only, and the reasons."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, kubernetes: Kubernetes) -> Path:
    """Write the schemas of all kinds of this cluster to a folder and return the folder.

    The kinds include those of this project and of the Prometheus operator.
    """
    releases.install_definitions(kubernetes)
    monitoring.install_definitions(kubernetes)
    folder = tmp_path_factory.mktemp("schemas")
    wanted = {f"{kind.lower()}-v1-{monitoring.GROUP}.json" for kind in monitoring.KINDS}
    found = commands_here.eventually(
        "the cluster publishes the kinds of the Prometheus operator",
        lambda: schemas.of_kinds(json.loads(kubernetes("get", "--raw=/openapi/v2"))),
        lambda made: wanted <= made.keys(),
    )
    for name, schema in found.items():
        (folder / name).write_text(json.dumps(schema), encoding="utf-8")
    return folder


def conforms(published: Path, text: str) -> str:
    """Return the errors that kubeconform finds in a manifest; empty when it finds none."""
    command = [
        str(cluster_guard.check_of_charts("kubeconform")),
        "-strict",
        f"-schema-location={published}/{schemas.LOCATION}",
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("file", renders.examples(), ids=lambda file: file.stem)
def test_every_object_of_an_example_is_as_the_cluster_knows_it(file: Path, published: Path) -> None:
    text = renders.examples()[file].read_text(encoding="utf-8")

    assert conforms(published, text) == ""
    assert "kind: " in text


@pytest.mark.parametrize("name", MONITORED)
def test_everything_for_monitoring_is_as_the_cluster_knows_it(name: str, published: Path) -> None:
    text = renders.render(MONITORED[name])

    assert conforms(published, text) == ""
    assert "misspelt" in conforms(published, text.replace("relabelings:", "misspelt:"))
    assert "kind: PrometheusRule" in text


def test_a_misspelt_field_is_found(published: Path) -> None:
    text = renders.render().replace("automountServiceAccountToken", "automountServiceAcountToken")

    assert "automountServiceAcountToken" in conforms(published, text)


@pytest.mark.parametrize("file", renders.examples(), ids=lambda file: file.stem)
def test_nothing_is_found_that_is_not_meant_to_be_so(file: Path) -> None:
    ignored = NOT_SCORED | OF_EXAMPLE.get(file.stem, {})
    command = [
        str(cluster_guard.check_of_charts("kube-score")),
        "score",
        "--output-format=ci",
        # A CPU limit would throttle searches even if the node is idle; CPU requests are enough to
        # share the node fairly.
        "--ignore-container-cpu-limit",
        *(f"--ignore-test={each}" for each in ignored),
        str(renders.examples()[file]),
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    found = [line for line in done.stdout.splitlines() if line.startswith(("[WARN", "[CRIT"))]
    assert found == []
    assert file.parents[1].name == "midstreamer-cluster" or "[OK]" in done.stdout, done.stderr
