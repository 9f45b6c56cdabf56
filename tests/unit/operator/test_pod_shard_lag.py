"""`midstreamer-k8s status` takes each pod's feed position and shards from the pod's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from midstreamer.cluster.api import Answer, Object
from midstreamer.telemetry import metrics
from midstreamer_operator.k8s import installation_status, pod_shard_lag, status_lines
from midstreamer_operator.k8s.pod_shard_lag import Measured
from midstreamer_operator.resources import deployments
from tests.support.api_server import ApiServer, Caller
from tests.support.operator_builders import NAMESPACE, RELEASE


@pytest.fixture
def exposed() -> str:
    """Return the /metrics text of a process that holds three shards and is at feed position 7."""
    gauges = {metrics.FEED_POSITION: 7.0, metrics.SHARDS_HELD: 3.0, metrics.COMPLETE: 1.0}
    for gauge, value in gauges.items():
        gauge.set(value)
    text = metrics.render().decode()
    for gauge in gauges:
        gauge.set(0.0)
    return text


def test_what_a_process_shows_is_read(exposed: str) -> None:
    assert pod_shard_lag.read("a", "agent", exposed) == Measured("a", 7, 3, is_complete=True)
    assert pod_shard_lag.read("c", "coordinator", exposed) == Measured(
        "c", 7, None, is_complete=True
    )
    assert pod_shard_lag.read("x", "sync", "") == Measured("x", None, None, is_complete=False)


def test_the_lag_is_the_distance_to_the_most_advanced_pod() -> None:
    lines = list(
        pod_shard_lag.shown(
            [
                Measured("mid-sync-1", 12, None, is_complete=True),
                Measured("mid-agent-1", 9, 1, is_complete=False),
                Measured("mid-operator-1", None, None, is_complete=False),
            ]
        )
    )

    assert lines == [
        "  mid-agent-1  3 changes behind, holds 1 shard, something is missing",
        "  mid-sync-1   up to date",
    ]


@dataclass
class Proxying(Caller):
    """A fake API server that forwards requests for metrics to pods.

    Each pod answers with the HTTP status `status` and the metrics in `text`.
    """

    text: str = ""
    status: int = 200

    async def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        if path.endswith(f"/pods/mid-sync-1:{PORT}/proxy/metrics"):
            return Answer(f"{method} {path}", self.status, {"message": self.text})
        return await super().ask(method, path, body, query=query)


PORT = 9191


def a_pod(name: str, component: str) -> Any:
    labels = {deployments.COMPONENT: component, deployments.INSTANCE: RELEASE}
    ports = [{"name": "health", "containerPort": PORT}]
    return {
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": {"containers": [{"name": component, "ports": ports}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def a_server() -> ApiServer:
    server = ApiServer()
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    server.put(pods, a_pod("mid-sync-1", "sync"))
    server.put(pods, a_pod("mid-operator-1", "operator"))
    return server


async def test_pods_that_follow_the_feed_are_asked_through_the_api_server(exposed: str) -> None:
    found = await installation_status.found(Proxying(a_server(), text=exposed), NAMESPACE, RELEASE)

    assert found.measured == [Measured("mid-sync-1", 7, None, is_complete=True)]
    assert "  mid-sync-1  up to date" in status_lines.shown(found, 0.0)


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [(403, "pods/proxy is forbidden", "shards and lag: reading metrics"),
     (503, "no route to host", "shards and lag of mid-sync-1: GET"),
     (200, "<html>{", "shards and lag of mid-sync-1: ")],
)  # fmt: skip
async def test_a_pod_that_cannot_be_asked_is_a_note(status: int, text: str, message: str) -> None:
    found = await installation_status.found(
        Proxying(a_server(), text=text, status=status), NAMESPACE, RELEASE
    )

    assert found.measured == []
    assert [note for note in found.notes if note.startswith(message)]
