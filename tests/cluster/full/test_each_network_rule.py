"""Every rule of the chart's NetworkPolicies is needed.

Without it, a port can be reached that should be closed, or a port that is needed cannot be reached.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import commands_here, reachable_ports, releases
from tests.cluster.reachable_ports import Table, Visitors
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

NOTICED_S_MAX = 20.0
PEERS = {"ingress": "from", "egress": "to"}
Policy = dict[str, Any]


def test_without_any_one_rule_the_table_of_who_reaches_whom_is_another(release: Release) -> None:
    kubectl, existing = release.kubernetes, _policies(release)
    changes: dict[str, list[str]] = {}

    with reachable_ports.visitors(release) as visiting:
        visiting.settled(visiting.expected())
        for policy in existing.values():
            for what, less in _lesser(policy):
                try:
                    kubectl("replace", "-f", "-", stdin=json.dumps(less))
                    changes[what] = _noticed(visiting, visiting.expected())
                finally:
                    kubectl("apply", "-f", "-", stdin=json.dumps(policy))
                noticed = {line.partition(" to ")[0] for line in changes[what]}
                visiting.settled(visiting.expected(), noticed)
    release.wait_ready()

    lines = [f"| {what} | {'; '.join(seen)} |" for what, seen in changes.items()]
    commands_here.say("\n".join(["| without | what changes |", "|---|---|", *lines]))
    assert {what.partition(",")[0] for what in changes} == set(existing) - {
        f"{release.name}-default-deny"
    }
    assert [what for what, seen in changes.items() if not seen] == []


def test_without_the_default_strangers_reach_pods_that_no_other_policy_closes(
    release: Release,
) -> None:
    kubectl, existing = release.kubernetes, _policies(release)
    default, monitors = f"{release.name}-default-deny", f"{release.name}-prometheus"
    gone = json.dumps(_list(existing[default], existing[monitors]))

    with reachable_ports.visitors(release) as visiting:
        # The default policy and the policy for Prometheus both select every pod, and a pod is
        # isolated while any policy selects it. So a pod is open only after the test has deleted
        # both. The policy for Prometheus is deleted first. `unread` is the table that is expected
        # after this deletion: the source "collector", which stands for Prometheus, no longer
        # reaches the health ports.
        unread = visiting.expected() | {
            ("collector", target): False for target in reachable_ports.HEALTH
        }
        try:
            kubectl("delete", "networkpolicy", monitors)
            visiting.settled(unread)
            kubectl("delete", "networkpolicy", default)
            opened = _noticed(visiting, unread)
        finally:
            kubectl("apply", "-f", "-", stdin=gone)
        visiting.settled(visiting.expected())

    commands_here.say("; ".join(opened))
    assert {f"stranger to {kind} health: open" for kind in ("operator", "agent")} <= set(opened)


def _noticed(visiting: Visitors, wanted: Table) -> list[str]:
    """Try all ports again and again, until what is reached differs from `wanted`.

    Return the differences; return an empty list when none appears in time.
    """
    try:
        return commands_here.eventually(
            "the missing rule changes what is reached",
            lambda: reachable_ports.differences(wanted, visiting.tried()),
            bool,
            timeout_s=NOTICED_S_MAX,
        )
    except commands_here.KitError:
        return []


def _policies(release: Release) -> dict[str, Policy]:
    """Return the NetworkPolicies of a release by name, in a form that can be applied again."""
    chosen = ("networkpolicies", "-l", f"{releases.INSTANCE}={release.name}")
    found = [_bare(policy) for policy in release.kubernetes.get(*chosen)["items"]]
    return {policy["metadata"]["name"]: policy for policy in found}


def _list(*items: Policy) -> Policy:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def _bare(policy: Policy) -> Policy:
    kept = {key: policy["metadata"][key] for key in ("name", "labels", "annotations")}
    return {"apiVersion": policy["apiVersion"], "kind": policy["kind"], "metadata": kept,
            "spec": policy["spec"]}  # fmt: skip


def _lesser(policy: Policy) -> Iterator[tuple[str, Policy]]:
    """Yield copies of a policy: each lacks a rule, a peer, a port, or the `except` of a peer.

    Each comes with a description of what it lacks.  The only peer or port of a rule is not removed,
    because without it the rule would allow more.
    """
    name = policy["metadata"]["name"]
    for direction, peers in PEERS.items():
        for at, rule in enumerate(policy["spec"].get(direction) or []):
            yield f"{name}, {direction} {at}", _without(policy, direction, at)
            for key in (peers, "ports"):
                for index in range(len(several) if len(several := rule.get(key) or []) > 1 else 0):
                    description = json.dumps(several[index])
                    yield (
                        f"{name}, {direction} {at}: {description}",
                        _without(policy, direction, at, key, index),
                    )
            for index, peer in enumerate(rule.get(peers) or []):
                if "except" in peer.get("ipBlock", {}):
                    description = ", ".join(peer["ipBlock"]["except"])
                    yield (
                        f"{name}, {direction} {at}: except {description}",
                        _without(policy, direction, at, peers, index, "ipBlock", "except"),
                    )


def _without(policy: Policy, *way: str | int) -> Policy:
    copied = copy.deepcopy(policy)
    place: Any = copied["spec"]
    for step in way[:-1]:
        place = place[step]
    del place[way[-1]]
    return copied
