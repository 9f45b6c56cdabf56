"""Nodes, pods, DNS names and Services of the cluster work, so that a fleet can be tested in it."""

from __future__ import annotations

import json

import pytest

from tests.cluster import commands_here, pods
from tests.cluster.pods import Kubernetes

pytestmark = [pytest.mark.cluster]


def test_every_node_is_ready(kubernetes: Kubernetes) -> None:
    nodes = kubernetes.get("nodes")["items"]

    conditions = [c for node in nodes for c in node["status"]["conditions"] if c["type"] == "Ready"]

    assert nodes
    assert [condition["status"] for condition in conditions] == ["True"] * len(nodes)


def test_a_pod_finds_the_api_server_by_name(kubernetes: Kubernetes) -> None:
    service = kubernetes.get("service/kubernetes", "--namespace=default")

    kubernetes.run_pod("lookup", "lookup", "kubernetes.default.svc.cluster.local")
    kubernetes.wait("lookup", "Succeeded")

    assert kubernetes("logs", "lookup").split() == service["spec"]["clusterIPs"]


def test_a_name_that_nobody_has_is_not_found(kubernetes: Kubernetes) -> None:
    kubernetes.run_pod("nobody", "lookup", "nobody.default.svc.cluster.local")

    kubernetes.wait("nobody", "Failed")

    assert "no such host" in kubernetes("logs", "nobody")


def test_a_pod_that_is_deleted_goes_within_its_grace_period(kubernetes: Kubernetes) -> None:
    kubernetes.run_pod("short", "pause")
    kubernetes.wait("short", "Running")

    kubernetes("delete", "pod", "short", "--timeout=10s")

    with pytest.raises(commands_here.KitError, match="not found"):
        kubernetes.get("pod/short")


@pytest.mark.parametrize(("protocol", "port"), [("tcp", 8080), ("udp", 9000)])
def test_a_service_leads_to_its_pod(kubernetes: Kubernetes, protocol: str, port: int) -> None:
    name = f"server-{protocol}"
    service = pods.service(name, protocol, port)
    kubernetes("apply", "-f", "-", stdin=json.dumps(service))
    kubernetes.run_pod(name, "serve")
    kubernetes("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")

    # The Service reaches the pod some tenths of a second after the pod is Ready.
    commands_here.until(
        f"{name} answers by its Service",
        lambda: _answer(kubernetes, name, protocol, port).split()[:1] == [name],
        timeout_s=20,
    )


def _answer(kubernetes: Kubernetes, name: str, protocol: str, port: int) -> str:
    try:
        return kubernetes("exec", name, "--", "/probe", "ask", protocol, f"{name}:{port}")
    except commands_here.KitError:
        return ""
