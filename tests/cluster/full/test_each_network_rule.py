"""No rule of the chart's NetworkPolicies is there for nothing: without it somebody notices."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import doors, host, releases
from tests.cluster.doors import Visitors
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

NOTICED_S_MAX = 20.0
PEERS = {"ingress": "from", "egress": "to"}
Policy = dict[str, Any]


def test_without_any_one_rule_the_table_of_who_reaches_whom_is_another(release: Release) -> None:
    kubectl = release.kubernetes
    chosen = ("networkpolicies", "-l", f"{releases.INSTANCE}={release.name}")
    there = [_bare(policy) for policy in kubectl.get(*chosen)["items"]]
    changes: dict[str, list[str]] = {}

    with doors.visitors(release) as visiting:
        visiting.settled(visiting.expected())
        for policy in there:
            for what, less in _lesser(policy):
                try:
                    _replace(release, policy, less)
                    changes[what] = _noticed(visiting)
                finally:
                    kubectl("apply", "-f", "-", stdin=json.dumps(policy))
                noticed = {line.partition(" to ")[0] for line in changes[what]}
                visiting.settled(visiting.expected(), noticed)
    release.wait_ready()

    lines = [f"| {what} | {'; '.join(seen)} |" for what, seen in changes.items()]
    host.say("\n".join(["| without | what changes |", "|---|---|", *lines]))
    assert len(changes) >= len(there)
    assert [what for what, seen in changes.items() if not seen] == []


def _noticed(visiting: Visitors) -> list[str]:
    """What differs without a rule; empty when nothing did in time."""
    wanted = visiting.expected()
    try:
        return host.eventually(
            lambda: doors.differences(wanted, visiting.tried()), bool, timeout_s=NOTICED_S_MAX
        )
    except host.KitError:
        return []


def _replace(release: Release, policy: Policy, less: Policy | None) -> None:
    if less is None:
        release.kubernetes("delete", "networkpolicy", policy["metadata"]["name"])
    else:
        release.kubernetes("replace", "-f", "-", stdin=json.dumps(less))


def _bare(policy: Policy) -> Policy:
    kept = {key: policy["metadata"][key] for key in ("name", "labels", "annotations")}
    return {"apiVersion": policy["apiVersion"], "kind": policy["kind"], "metadata": kept,
            "spec": policy["spec"]}  # fmt: skip


def _lesser(policy: Policy) -> Iterator[tuple[str, Policy | None]]:
    """The policy without each rule, each of several peers or ports, each exception.

    A rule keeps its last peer and its last port: without them it would be wider.  A policy that
    has no rules goes as a whole.
    """
    name = policy["metadata"]["name"]
    if not any(policy["spec"].get(direction) for direction in PEERS):
        yield name, None
    for direction, peers in PEERS.items():
        for at, rule in enumerate(policy["spec"].get(direction) or []):
            yield f"{name}, {direction} {at}", _without(policy, direction, at)
            for key in (peers, "ports"):
                for index in range(len(several) if len(several := rule.get(key) or []) > 1 else 0):
                    told = json.dumps(several[index])
                    yield (
                        f"{name}, {direction} {at}: {told}",
                        _without(policy, direction, at, key, index),
                    )
            for index, peer in enumerate(rule.get(peers) or []):
                if "except" in peer.get("ipBlock", {}):
                    told = ", ".join(peer["ipBlock"]["except"])
                    yield (
                        f"{name}, {direction} {at}: except {told}",
                        _without(policy, direction, at, peers, index, "ipBlock", "except"),
                    )


def _without(policy: Policy, *way: str | int) -> Policy:
    made = copy.deepcopy(policy)
    place: Any = made["spec"]
    for step in way[:-1]:
        place = place[step]
    del place[way[-1]]
    return made
