"""The rights that the charts give are narrow, and each kind of pod has its own account."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import removed_rights, renders, rights
from tests.cluster.renders import NAMESPACE, RELEASE
from tests.cluster.rights import Right

pytestmark = [pytest.mark.cluster]

FOR_PEOPLE = {
    "midstreamer:agentpools:admin",
    "midstreamer:agentpools:edit",
    "midstreamer:agentpools:view",
    "midstreamer:clientidentities:use",
}
"""The roles that the charts make for people. The charts do not bind these roles to anybody.

Each of these roles has a label for aggregation. Because of this label, Kubernetes adds the rights
of the role to one of the built-in roles `admin`, `edit` and `view`.
"""
PLACED = ("Deployment", "StatefulSet", "PodTemplate", "Pod")


@cache
def made() -> tuple[dict[str, Any], ...]:
    """Return all objects of the two charts together, rendered for one fleet.

    The fleet has a namespace of clients.
    """
    return tuple(removed_rights.rendered())


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [each for each in made() if each["kind"] in kinds]


def all_rights() -> list[Right]:
    return rights.rights(made())


def test_every_right_has_a_row_that_says_what_fails_without_it() -> None:
    assert removed_rights.lacking() == set()
    assert {row.way for row in removed_rights.ROWS.values()} == set(removed_rights.WAYS)


@pytest.mark.parametrize("file", renders.examples(), ids=lambda file: file.stem)
def test_no_rule_of_any_example_has_a_star(file: Path) -> None:
    recorded = renders.objects(renders.examples()[file].read_text(encoding="utf-8"))

    found = rights.rights(recorded)

    assert found
    assert not [each for each in found if "*" in "".join((each.group, each.resource, each.verb))]
    assert not [each for each in found if "*" in each.name]


def test_nobody_has_a_right_to_addresses_instead_of_objects() -> None:
    rules = [rule for role in of_kind(*rights.ROLES) for rule in role["rules"]]

    assert rules
    assert not [rule for rule in rules if "nonResourceURLs" in rule]


def test_secrets_are_read_by_name_and_in_the_namespace_alone() -> None:
    of_secrets = {
        (each.kind, each.role, each.verb, each.name)
        for each in all_rights()
        if each.resource.partition("/")[0] == "secrets"
    }

    operator = ("Role", f"{RELEASE}-operator")
    assert of_secrets == {
        (*operator, "create", ""),
        (*operator, "get", f"{RELEASE}-authority"),
        (*operator, "get", f"{RELEASE}-postgres"),
    }


def test_nobody_may_run_anything_in_a_pod_or_become_somebody_else() -> None:
    forbidden = {"pods/exec", "pods/attach", "pods/portforward", "serviceaccounts/token"}
    found = all_rights()

    assert not forbidden & {each.resource for each in found}
    assert not {"impersonate", "bind", "escalate"} & {each.verb for each in found}
    groups = {each.group for each in found}
    assert "rbac.authorization.k8s.io" not in groups


def test_pods_are_made_by_the_operator_alone_and_by_way_of_deployments() -> None:
    makers = {
        (each.role, each.resource)
        for each in all_rights()
        if each.verb == "create" and each.group == "apps"
    }

    assert makers == {(f"{RELEASE}-operator", "deployments")}
    assert not [each for each in all_rights() if each.resource == "pods" and each.verb == "create"]


def test_a_role_of_the_cluster_carries_namespace_and_release_or_is_bound_to_nobody() -> None:
    of_fleet = f"midstreamer:{NAMESPACE}:{RELEASE}:"
    names = {each["metadata"]["name"] for each in of_kind("ClusterRole", "ClusterRoleBinding")}
    bound = {each["roleRef"]["name"] for each in of_kind("ClusterRoleBinding", "RoleBinding")}

    assert {name for name in names if not name.startswith(of_fleet)} == FOR_PEOPLE
    assert not bound & FOR_PEOPLE


def test_rights_go_to_the_fleets_own_accounts_and_to_namespaces_that_are_named() -> None:
    subjects = [who for each in of_kind("ClusterRoleBinding", "RoleBinding")
                for who in each["subjects"]]  # fmt: skip
    accounts = {each["metadata"]["name"] for each in of_kind("ServiceAccount")}

    assert {who["kind"] for who in subjects} == {"ServiceAccount", "Group"}
    for who in subjects:
        if who["kind"] == "Group":
            assert who["name"] == f"system:serviceaccounts:{removed_rights.CLIENTS}"
        else:
            assert (who["namespace"], who["name"] in accounts) == (NAMESPACE, True)


def test_a_pod_of_each_kind_has_an_account_that_no_other_kind_has() -> None:
    owners = of_kind(*PLACED)
    accounts = Counter(_pod(each)["serviceAccountName"] for each in owners)

    assert set(accounts.values()) == {1}
    assert set(accounts) == {each["metadata"]["name"] for each in of_kind("ServiceAccount")}


def test_a_role_without_one_right_has_all_the_others() -> None:
    (role,) = (
        each for each in of_kind("Role") if each["metadata"]["name"] == f"{RELEASE}-operator"
    )
    has = set(rights.given(role))

    assert len(has) > 20
    for right in has:
        assert set(rights.given(rights.without(role, right))) == has - {right}


def _pod(owner: dict[str, Any]) -> dict[str, Any]:
    if owner["kind"] == "Pod":
        return dict(owner["spec"])
    template = owner["template"] if owner["kind"] == "PodTemplate" else owner["spec"]["template"]
    return dict(template["spec"])
