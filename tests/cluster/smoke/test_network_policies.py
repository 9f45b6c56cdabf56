"""Connections show that a release's ports are open to the intended sources, closed to others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster import (
    cluster_guard,
    commands_here,
    names,
    network_policies,
    reachable_ports,
    releases,
)
from tests.cluster.pods import Kubernetes, pod
from tests.cluster.releases import PYTHON, Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

EARLY = (
    reachable_ports.TEXT.replace("main()\n", "pass\n")
    + """
import time
begun_s, kind, address, port = time.monotonic(), sys.argv[1], sys.argv[2], int(sys.argv[3])
WAIT_S = 0.05
tries = []
while time.monotonic() - begun_s < 3.0:
    tries.append(reached(kind, address, port))
print(json.dumps({"reached": sum(tries), "tries": len(tries)}))
"""
)
"""Python code that tries one port again and again for three seconds, from its pod's start."""


def test_each_port_is_open_to_those_it_is_meant_for_and_closed_to_others(
    release: Release,
) -> None:
    with reachable_ports.visitors(release) as visiting:
        visiting.settled(visiting.expected())

        found = visiting.tried()

    commands_here.say(reachable_ports.markdown(found))
    assert reachable_ports.differences(visiting.expected(), found) == []
    assert all({True, False} <= {found[pair] for pair in found if pair[0] == source}
               for source in visiting.sources if source != "node-0")  # fmt: skip


def test_a_pod_is_isolated_from_its_first_moment(kubernetes: Kubernetes) -> None:
    _made_here()
    kubernetes(
        "apply", "-f", "-", stdin=json.dumps(_policy("nothing", {"policyTypes": ["Egress"]}))
    )
    api = kubernetes.get("service/kubernetes", "--namespace=default")["spec"]["clusterIP"]
    early = [_python(f"early-{index}", EARLY, "tcp", api, "443") for index in range(4)]
    free = _python("free", EARLY, "tcp", api, "443")
    free["metadata"]["labels"] = {"app": "free"}

    kubernetes("apply", "-f", "-", stdin=_list(*early, free))
    for each in (*early, free):
        kubernetes.wait(each["metadata"]["name"], "Succeeded")

    results = [json.loads(kubernetes("logs", each["metadata"]["name"])) for each in early]
    assert [each["reached"] for each in results] == [0] * len(early)
    assert json.loads(kubernetes("logs", "free"))["reached"] > 0
    kubernetes("delete", "networkpolicy", "nothing")


def test_a_policy_that_cannot_be_enforced_closes_its_pods_and_is_told(
    kubernetes: Kubernetes,
) -> None:
    cluster = _made_here()
    strange = {"egress": [{}, {"ports": [{"protocol": "SCTP", "port": 7}]}]}
    kubernetes("apply", "-f", "-", stdin=json.dumps(_policy("strange", strange)))

    complaints = commands_here.eventually(
        "a complaint names the policy", lambda: network_policies.complaints(cluster), bool
    )

    api = kubernetes.get("service/kubernetes", "--namespace=default")["spec"]["clusterIP"]
    kubernetes("apply", "-f", "-", stdin=_list(_python("closed", EARLY, "tcp", api, "443")))
    kubernetes.wait("closed", "Succeeded")
    assert json.loads(kubernetes("logs", "closed"))["reached"] == 0
    assert f"NetworkPolicy {kubernetes.namespace}/strange: protocol SCTP" in complaints[0]
    kubernetes("delete", "networkpolicy", "strange")
    commands_here.eventually(
        "no policy has a complaint",
        lambda: network_policies.complaints(cluster),
        lambda lines: not lines,
    )


def _made_here() -> names.Cluster:
    cluster = cluster_guard.made_here()
    if cluster is None:
        pytest.skip("needs a cluster of `make cluster`: others enforce policies differently")
    return cluster


def _policy(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return an egress policy for all pods except those with the label app=free."""
    chosen = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["free"]}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": chosen, "policyTypes": ["Egress"], **spec},
    }


def _python(name: str, *words: str) -> dict[str, Any]:
    described = pod(name)
    images = releases.images()
    (container,) = described["spec"]["containers"]
    container |= {
        "image": f"{images['registry'] or 'localhost'}/midstreamer:{images['tag']}",
        "imagePullPolicy": images["pullPolicy"],
        "command": [PYTHON],
        "args": ["-c", *words],
    }
    return described


def _list(*items: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
