"""A release on two nodes is spread over both, and stays complete while one node takes no pods.

Needs a cluster of two nodes or more: `make cluster NODES=2`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import commands_here, pods, reachable_ports
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SPREAD = ("agent", "coordinator", "sync", "operator")


@pytest.fixture(autouse=True)
def nodes(kubernetes: Kubernetes) -> list[str]:
    """Return the names of the cluster's nodes; skip the test with fewer than two."""
    names = [str(node["metadata"]["name"]) for node in kubernetes.get("nodes")["items"]]
    if len(names) < 2:
        pytest.skip("needs two nodes: `make cluster NODES=2`")
    return names


@pytest.fixture
def cordoned(kubernetes: Kubernetes, nodes: list[str]) -> Iterator[str]:
    """Cordon the last node during the test, so that it takes no new pod; return its name."""
    kubernetes("cordon", nodes[-1])
    yield nodes[-1]
    kubernetes("uncordon", nodes[-1])


def places(release: Release, kind: str) -> list[str]:
    return sorted(pod["spec"]["nodeName"] for pod in release.pods(kind))


def asked(kubernetes: Kubernetes, source: str, address: str, protocol: str) -> str:
    """Send a request from a probe pod; return the answering pod's name, or "" without an answer."""
    port = {"tcp": 8080, "udp": 9000}[protocol]
    try:
        words = ("/probe", "ask", protocol, f"{address}:{port}")
        return kubernetes("exec", source, "--", *words).split()[0]
    except commands_here.KitError:
        return ""


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_policy_holds_between_pods_of_every_pair_of_nodes(
    kubernetes: Kubernetes, nodes: list[str], protocol: str
) -> None:
    placed = {f"{role}-{node}": node for role in ("server", "friend", "other") for node in nodes}
    kubernetes("apply", "-f", "-", stdin=json.dumps(_on_nodes(placed)))
    for name in placed:
        kubernetes("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    servers = {f"server-{node}" for node in nodes}
    where = {name: kubernetes.get(f"pod/{name}")["status"]["podIP"] for name in servers}
    pairs = [(source, server) for source in set(placed) - servers for server in servers]
    before = {pair: asked(kubernetes, pair[0], where[pair[1]], protocol) for pair in pairs}

    kubernetes("apply", "-f", "-", stdin=json.dumps(_friends_only()))
    wanted = {pair: pair[1] if pair[0].startswith("friend") else "" for pair in pairs}
    commands_here.eventually(
        "policies are in force",
        lambda: {pair: asked(kubernetes, pair[0], where[pair[1]], protocol) for pair in pairs},
        lambda found: found == wanted,
        timeout_s=60.0,
    )

    assert before == {pair: pair[1] for pair in pairs}
    kubernetes("delete", "networkpolicy", "friends-only")


def _on_nodes(placed: dict[str, str]) -> dict[str, Any]:
    items = [pods.pod(name, "serve") for name in placed]
    for pod, node in zip(items, placed.values(), strict=True):
        pod["metadata"]["labels"] = {"role": pod["metadata"]["name"].partition("-")[0]}
        pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _friends_only() -> dict[str, Any]:
    friend = {"podSelector": {"matchLabels": {"role": "friend"}}}
    spec = {"podSelector": {"matchLabels": {"role": "server"}}, "ingress": [{"from": [friend]}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends-only"},
        "spec": spec,
    }


@pytest.mark.parametrize("kind", SPREAD)
def test_the_pods_of_a_kind_are_on_both_nodes(
    release: Release, nodes: list[str], kind: str
) -> None:
    assert places(release, kind) == nodes[:2]


def test_each_port_is_open_to_those_it_is_meant_for_across_nodes(release: Release) -> None:
    with reachable_ports.visitors(release) as visiting:
        visiting.settled(visiting.expected())

        commands_here.say(reachable_ports.markdown(visiting.tried()))
        tried_nodes = {target.node for target in visiting.targets.values()}
    assert {"node-0", "node-1"} <= tried_nodes


def test_a_node_that_takes_no_pods_keeps_none_waiting(
    release: Release, kubernetes: Kubernetes, cordoned: str
) -> None:
    before = places(release, "sync")
    (leaving,) = [pod for pod in release.pods("sync") if pod["spec"]["nodeName"] == cordoned]

    release.kubernetes("delete", "pod", leaving["metadata"]["name"], "--timeout=60s")
    release.wait_ready()

    other = next(node for node in before if node != cordoned)
    assert places(release, "sync") == [other, other]
