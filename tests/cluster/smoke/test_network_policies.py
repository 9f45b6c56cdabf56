"""Ports of a release are open to whom they are meant, and closed to all others; by trial."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster import doors, enforcing, host, mark, names, releases
from tests.cluster.pods import Kubernetes, pod
from tests.cluster.releases import PYTHON, Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

EARLY = (
    doors.TEXT.replace("main()\n", "pass\n")
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
"""Tries one port from its first moment on, for three seconds."""


def test_each_port_is_open_to_those_it_is_meant_for_and_closed_to_others(
    release: Release,
) -> None:
    with doors.visitors(release) as visiting:
        visiting.settled(visiting.expected())

        found = visiting.tried()

    host.say(doors.markdown(found))
    assert doors.differences(visiting.expected(), found) == []
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

    told = [json.loads(kubernetes("logs", each["metadata"]["name"])) for each in early]
    assert [each["reached"] for each in told] == [0] * len(early)
    assert json.loads(kubernetes("logs", "free"))["reached"] > 0
    kubernetes("delete", "networkpolicy", "nothing")


def test_a_policy_that_cannot_be_enforced_closes_its_pods_and_is_told(
    kubernetes: Kubernetes,
) -> None:
    cluster = _made_here()
    strange = {"egress": [{}, {"ports": [{"protocol": "SCTP", "port": 7}]}]}
    kubernetes("apply", "-f", "-", stdin=json.dumps(_policy("strange", strange)))

    told = host.eventually("it is complained of", lambda: enforcing.complaints(cluster), bool)

    api = kubernetes.get("service/kubernetes", "--namespace=default")["spec"]["clusterIP"]
    kubernetes("apply", "-f", "-", stdin=_list(_python("closed", EARLY, "tcp", api, "443")))
    kubernetes.wait("closed", "Succeeded")
    assert json.loads(kubernetes("logs", "closed"))["reached"] == 0
    assert f"NetworkPolicy {kubernetes.namespace}/strange: protocol SCTP" in told[0]
    kubernetes("delete", "networkpolicy", "strange")
    host.eventually(
        "all is well again", lambda: enforcing.complaints(cluster), lambda lines: not lines
    )


def _made_here() -> names.Cluster:
    cluster = mark.made_here()
    if cluster is None:
        pytest.skip("another cluster enforces policies in its own way")
    return cluster


def _policy(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A policy for pods that try a port early."""
    chosen = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["free"]}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": chosen, "policyTypes": ["Egress"], **spec},
    }


def _python(name: str, *words: str) -> dict[str, Any]:
    made = pod(name)
    images = releases.images()
    (container,) = made["spec"]["containers"]
    container |= {
        "image": f"{images['registry'] or 'localhost'}/midstreamer:{images['tag']}",
        "imagePullPolicy": images["pullPolicy"],
        "command": [PYTHON],
        "args": ["-c", *words],
    }
    return made


def _list(*items: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
