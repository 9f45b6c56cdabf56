"""Clients of the two documented kinds get certificates: a pod, and a person with kubectl."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from midstreamer.cluster import kubernetes_names
from midstreamer_operator.k8s.status_lines import WAITING
from tests.cluster import cluster_guard, commands_here, example_application
from tests.cluster.conftest import a_namespace
from tests.cluster.example_application import decisions, deployed, log, restarts
from tests.cluster.outside_client import Desk, k8s
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster]

WITHIN_S = 90.0
FEW = 5
"""The number of decisions that is enough to show that the example application works."""


@pytest.fixture(scope="module")
def app() -> Iterator[Kubernetes]:
    """Return kubectl in the namespace of an application."""
    with a_namespace() as kubectl:
        yield kubectl


@pytest.fixture(scope="module")
def fleet(release: Release, app: Kubernetes) -> Release:
    """Return the fleet, which admits the application's pods and the identities `client/desk-*`."""
    example_application.let_in(release, app, "client/desk-*")
    return release


def test_the_example_waits_until_its_namespace_is_labelled_and_then_matches(
    app: Kubernetes, fleet: Release
) -> None:
    deployed(app, fleet)
    label = kubernetes_names.client_label(fleet.namespace, fleet.name)

    missing = f"to let its pods in: kubectl label namespace {app.namespace} {label}=client"
    commands_here.until(
        "the example's log names the missing label", lambda: missing in log(app), timeout_s=WITHIN_S
    )
    app("label", "namespace", app.namespace, f"{label}=client")
    commands_here.until(
        "the example gets decisions", lambda: decisions(app) >= FEW, timeout_s=WITHIN_S
    )
    (pod,) = app.get("pods")["items"]
    wanted = f"client/{app.namespace}/{pod['metadata']['name']}/{pod['metadata']['uid']}"
    entries = fleet.kubernetes.get("configmaps", "-l", f"midstreamer.dev/ledger={fleet.name}")
    assert any(each["data"]["id"].endswith(wanted) for each in entries["items"])


@pytest.mark.long
@pytest.mark.parametrize("component", ["coordinator", "sync", "agent", "operator", "postgres"])
def test_the_example_goes_on_while_pods_of_the_fleet_are_replaced(
    app: Kubernetes, fleet: Release, component: str
) -> None:
    before = restarts(app)
    victim = fleet.pods(component)[0]["metadata"]["name"]
    fleet.kubernetes("delete", "pod", victim, "--timeout=60s")
    fleet.wait_ready()
    at = decisions(app)
    commands_here.until(
        "the example gets more decisions", lambda: decisions(app) >= at + FEW, timeout_s=WITHIN_S
    )
    assert restarts(app) == before
    assert "error[" not in log(app)


# --- people ---------------------------------------------------------------------------------------


def test_a_person_gets_a_certificate_by_which_the_fleet_answers(
    fleet: Release, tmp_path: Path
) -> None:
    done = k8s(fleet, "certs", "request", "desk-1", "--directory", str(tmp_path / "certs"))
    assert done.returncode == 0, done.stderr
    assert "client/desk-1: " in done.stdout
    assert (tmp_path / "certs/client/desk-1.pem").stat().st_mode & 0o777 == 0o600
    shown = eventually_shown(fleet, tmp_path)
    assert f"coordinator/{fleet.namespace}/{fleet.name}-coordinator-0" in shown


def eventually_shown(fleet: Release, folder: Path) -> str:
    """Run `midstreamer status` outside the cluster until it shows the members; return its output.

    The command is repeated, because it may fail until the fleet has admitted the client.
    """
    desk = Desk(fleet, folder)

    def status() -> str:
        try:
            return desk.midstreamer("status", "--json")
        except commands_here.KitError as error:
            return str(error)

    return commands_here.eventually(
        "`midstreamer status` shows the members",
        status,
        lambda said: '"members"' in said,
        timeout_s=WITHIN_S,
    )


def test_a_screen_shows_every_pod_and_its_certificate(fleet: Release) -> None:
    fleet.wait_ready()
    done = k8s(fleet, "status")
    assert done.returncode == 0, done.stderr
    commands_here.say(done.stdout)
    for component, count in (("operator", 2), ("postgres", 1), ("sync", 2), ("coordinator", 2)):
        assert re.search(rf"^{component} +{count} of {count}$", done.stdout, re.MULTILINE)
    assert "not shown" not in done.stdout
    assert f"\n{WAITING}\n" not in done.stdout
    assert re.search(
        r"^  mid-agent-\S+ +(up to date|\d+ changes? behind), holds \d+ shards?$",
        done.stdout,
        re.MULTILINE,
    )
    for pod in (*fleet.pods("sync"), *fleet.pods("agent")):
        assert pod["metadata"]["name"] in done.stdout


def test_a_screen_says_why_a_pod_waits(fleet: Release) -> None:
    patch = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    patch.append({"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "node"}})
    name = f"deployment/{fleet.name}-sync"
    fleet.kubernetes("patch", name, "--type=json", "-p", json.dumps(patch))
    try:
        commands_here.until(
            "`midstreamer-k8s status` says why the pod waits",
            lambda: "Unschedulable: 0/" in k8s(fleet, "status").stdout,
            timeout_s=WITHIN_S,
        )
    finally:
        fleet.kubernetes("rollout", "undo", name)
        fleet.kubernetes("scale", name, "--replicas=2")
    fleet.wait_ready()


def test_a_release_that_runs_is_not_purged(fleet: Release) -> None:
    done = k8s(fleet, "purge", "--yes")
    assert done.returncode == 2
    assert f"helm uninstall {fleet.name} --namespace {fleet.namespace}" in done.stderr
    assert fleet.kubernetes.get(f"secret/{fleet.name}-authority")


@pytest.mark.long
def test_what_an_uninstalled_release_leaves_is_purged_and_nothing_else(
    kubernetes: Kubernetes,
) -> None:
    small = {"replicas": 1}
    none = {"replicas": 0}
    values = {"agent": none, "sync": small, "coordinator": small, "allowlist": []}
    release = Release(kubernetes, "gone", values)
    release.install()
    kubernetes("create", "secret", "generic", "mine", "--from-literal=a=b")

    def made() -> set[str]:
        kinds = "secrets,configmaps,leases.coordination.k8s.io,persistentvolumeclaims"
        return {each["metadata"]["name"] for each in kubernetes.get(kinds)["items"]}

    left = {"gone-authority", "gone-postgres", "gone-trust", "gone-operator"}
    left.add("data-gone-postgres-0")

    def is_whole() -> bool:
        return left <= made() and any(name.startswith("gone-issued-") for name in made())

    commands_here.until("the operator has made its objects", is_whole, timeout_s=WITHIN_S)
    commands_here.run(
        [cluster_guard.helm(), "uninstall", "gone", "--namespace", kubernetes.namespace, "--wait"]
    )
    commands_here.until(
        "the release's pods are gone", lambda: not release.pods(), timeout_s=WITHIN_S
    )
    assert left <= made()

    done = k8s(release, "purge", "--yes")

    assert done.returncode == 0, done.stderr
    commands_here.say(done.stdout)
    commands_here.until(
        "only objects that are not the release's stay",
        lambda: made() == {"mine", "kube-root-ca.crt"},
        timeout_s=WITHIN_S,
    )
    assert "nothing is left of" in k8s(release, "purge").stdout
    kubernetes("delete", "persistentvolume", release._volume_name)
