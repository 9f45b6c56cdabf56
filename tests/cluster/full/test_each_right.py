"""Every right of the charts is needed: without it, a task fails and the failure is reported."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from midstreamer.cluster import kubernetes_names
from tests.cluster import commands_here, removed_rights, requester_accounts, rights, rights_tasks
from tests.cluster.conftest import a_namespace
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release
from tests.cluster.removed_rights import ROWS, WAYS
from tests.cluster.rights import Right
from tests.cluster.rights_tasks import Deed, Place

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

WELL_S_MAX = 40.0
MISSED_S_MAX = 60.0
ACCOUNTS = {
    "operator": "operator",
    "cluster operator": "operator",
    "member": "agent",
    "cluster member": "agent",
    "client": "test",
    "cluster client": "test",
    "test": "test",
}
PEOPLE = {
    "agentpools:admin": "admin",
    "agentpools:edit": "edit",
    "agentpools:view": "view",
    "clientidentities:use": "admin",
}
REVIEW = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
PACE = {"MIDSTREAMER_OPERATOR__SWEEP_S": "1"}
"""Settings of the operator: a short time between sweeps.

A sweep finds changes that no watch has reported.
"""


@pytest.fixture(scope="module")
def app() -> Iterator[Kubernetes]:
    with a_namespace() as kubectl:
        yield kubectl


@pytest.fixture(scope="module")
def place(
    kubernetes: Kubernetes, app: Kubernetes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Install the cluster-wide roles, and then a fleet with one pod of each kind."""
    one = {"replicas": 1}
    values = {
        "cluster": {"create": False},
        "coordinator": one,
        "sync": one,
        "agent": one,
        "operator": one,
        "test": {"deadlineSeconds": 20},
        "extraEnv": [{"name": name, "value": value} for name, value in PACE.items()],
    }
    release = Release(kubernetes, values=values)
    wide = json.dumps(_list(_of_cluster(release, app)))
    kubernetes("apply", "-f", "-", stdin=wide)
    try:
        release.install()
        release.wait_ready()
        for role in ("view", "edit", "admin"):
            kubernetes("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}")
        app("label", "namespace", app.namespace, f"{_label(release)}={kubernetes_names.CLIENT}")
        yield _place(release, app, tmp_path_factory)
    finally:
        release.uninstall()
        kubernetes("delete", "-f", "-", stdin=wide)


@pytest.mark.parametrize("way", [way for way in WAYS if way in {row.way for row in ROWS.values()}])
def test_without_a_right_somebody_says_what_fails(place: Place, app: Kubernetes, way: str) -> None:
    objects = removed_rights.rendered(place.release.namespace, place.release.name, app.namespace)
    mine = [right for right in rights.rights(objects) if ROWS[_told(place, right)].way == way]
    deed, unnoticed = WAYS[way].deed, []

    assert mine
    _well(place, deed)
    for right in mine:
        begun_s = time.monotonic()
        with _taken(place, right):
            seen = _missed(place, deed, ROWS[_told(place, right)].evidence(right))
        noticed_s = time.monotonic() - begun_s
        _well(place, deed)
        again_s = time.monotonic() - begun_s - noticed_s
        commands_here.say(
            f"{_told(place, right)}: {noticed_s:.1f} s, recovered {again_s:.1f} s; {seen}"
        )
        unnoticed += [] if seen else [right]
    assert unnoticed == []


def test_every_right_has_a_row_and_every_row_a_right() -> None:
    assert removed_rights.lacking() == set()


# --- trying ---------------------------------------------------------------------------------------


def _well(place: Place, deed: Deed) -> None:
    """Check that a task succeeds and stays successful for the seconds `Deed.steady_s`."""
    with _begun(place, deed) as look:
        commands_here.eventually(
            "the task succeeds", look, lambda told: not told, timeout_s=WELL_S_MAX
        )
        until_s = time.monotonic() + deed.steady_s
        while time.monotonic() < until_s:
            assert look() == ""


def _missed(place: Place, deed: Deed, evidence: str) -> str:
    """Run a task that must fail, and wait until the report of its failure contains `evidence`.

    Return `evidence` with the text around it; return "" when no such report comes in time.
    """
    with _begun(place, deed) as look:
        try:
            report = commands_here.eventually(
                "the missing right is reported",
                look,
                lambda report: evidence in report,
                timeout_s=MISSED_S_MAX,
            )
        except commands_here.KitError as error:
            commands_here.say(str(error))
            return ""
    at = report.find(evidence)
    return report[max(0, at - 120) : at + 160].replace("\n", " ")


@contextmanager
def _begun(place: Place, deed: Deed) -> Iterator[rights_tasks.Look]:
    try:
        yield deed.begin(place)
    finally:
        while place.undo:
            place.undo.pop()()


@contextmanager
def _taken(place: Place, right: Right) -> Iterator[None]:
    """Remove a right from the role that gives it; restore the role at the end of the block."""
    name = f"{right.kind.lower()}/{right.role}"
    role = place.kubernetes.get(name)
    less = rights.without(role, right)["rules"]
    try:
        _patch(place, name, less)
        commands_here.until(f"{right} is denied", lambda: not _may(place, right), timeout_s=20.0)
        yield
    finally:
        _patch(place, name, role["rules"])
        commands_here.until(f"{right} is allowed", lambda: _may(place, right), timeout_s=20.0)


def _patch(place: Place, name: str, rules: list[dict[str, Any]]) -> None:
    place.kubernetes("patch", name, "--type=merge", "-p", json.dumps({"rules": rules}))


def _may(place: Place, right: Right) -> bool:
    """Whether the account that needs a right has it now, as the API server says.

    The account is a service account of the release, or a user; it gets the right by its role.
    """
    role = _told(place, right).rpartition(": ")[0]
    resource, _, part = right.resource.partition("/")
    asked = {"group": right.group, "resource": resource, "subresource": part, "verb": right.verb}
    asked |= {"namespace": place.release.namespace, "name": right.name}
    account = f"{place.release.name}-{ACCOUNTS.get(role)}"
    user = PEOPLE.get(role) or f"system:serviceaccount:{place.release.namespace}:{account}"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
    answer = place.kubernetes("create", "--raw", REVIEW, "-f", "-", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


def _told(place: Place, right: Right) -> str:
    return right.told(place.release.namespace, place.release.name)


# --- the place ------------------------------------------------------------------------------------


def _place(release: Release, app: Kubernetes, factory: pytest.TempPathFactory) -> Place:
    members = requester_accounts.Installation(release.kubernetes, factory.mktemp("members"))
    others = requester_accounts.Installation(app, factory.mktemp("others"))
    agent = members.pod("agent-0", f"{release.name}-agent")
    shop = others.pod("shop-0", "default")
    jane = requester_accounts.Bound("jane", "", others.person("jane"))
    who = f"--serviceaccount={app.namespace}:jane"
    use = Right(
        "Role",
        "desk",
        kubernetes_names.GROUP,
        kubernetes_names.CLIENT_IDENTITIES,
        "desk",
        kubernetes_names.USE,
    )
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "desk"},
        "rules": [use.rule],
    }
    release.kubernetes("apply", "-f", "-", stdin=json.dumps(role))
    release.kubernetes("create", "rolebinding", "desk", "--role=desk", who)
    place = Place(release, members, agent, shop, jane)
    rights_tasks.a_pool(place, rights_tasks.STUCK, replicas=1, nodeSelector={"no-such": "node"})
    return place


def _label(release: Release) -> str:
    return kubernetes_names.client_label(release.namespace, release.name)


def _of_cluster(release: Release, app: Kubernetes) -> list[dict[str, Any]]:
    objects = removed_rights.rendered(release.namespace, release.name, app.namespace)
    return [each for each in objects if str(each["kind"]).startswith("ClusterRole")]


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}
