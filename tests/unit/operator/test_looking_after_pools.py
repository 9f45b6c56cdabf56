"""The operator makes each pool as its spec says, also after a change or an operator restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midstreamer.domain.errors import BadInput
from midstreamer.telemetry import metrics
from midstreamer_operator.api_writes import Overtaken
from midstreamer_operator.pool_reconciler import Pools
from midstreamer_operator.resources import agentpools, deployments
from tests.support.api_server import ADMIN, ApiServer, Caller
from tests.support.metric_values import shown
from tests.support.operator_builders import NAMESPACE, NOW_S, RELEASE
from tests.support.pool_builders import NAME, a_pool, a_template

POOLS = agentpools.path(NAMESPACE)
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
TEMPLATES = f"/api/v1/namespaces/{NAMESPACE}/podtemplates"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


def a_namespace(**spec: Any) -> ApiServer:
    server = ApiServer()
    server.put(TEMPLATES, a_template())
    wanted = {"fleet": RELEASE, "replicas": 2, **spec}
    server.put(POOLS, {"metadata": {"name": NAME, "uid": "pool-uid"}, "spec": wanted})
    return server


def looking_after(server: ApiServer, **changes: Any) -> Pools:
    return replace(Pools(Caller(server, ADMIN), NAMESPACE, RELEASE, lambda: NOW_S), **changes)


def kubernetes(server: ApiServer, *, ready: int = 2) -> None:
    """Update the status of the Deployment as Kubernetes does, with `ready` pods that are ready."""
    (held,) = server.all(DEPLOYMENTS)
    wanted = held["spec"]["replicas"]
    held["status"] = {
        "observedGeneration": held["metadata"]["generation"],
        "replicas": wanted,
        "updatedReplicas": wanted,
        "readyReplicas": min(ready, wanted),
    }


def ready_of(server: ApiServer) -> tuple[str, str]:
    condition = server.objects[POOLS][NAME]["status"]["conditions"][0]
    return condition["status"], condition["reason"]


def writes(server: ApiServer) -> list[str]:
    return [path.rpartition(NAMESPACE)[2] for method, path in server.calls if method == "PATCH"]


async def test_a_pool_becomes_a_deployment_and_is_ready_with_its_pods() -> None:
    server = a_namespace()
    pools = looking_after(server)

    await pools.look()
    starting = ready_of(server)
    kubernetes(server)
    await pools.look()

    assert starting == ("False", "Starting")
    assert ready_of(server) == ("True", "AllReady")
    assert server.objects[POOLS][NAME]["status"]["readyReplicas"] == 2


async def test_reconciling_a_pool_in_its_wanted_state_writes_nothing() -> None:
    server = a_namespace()
    pools = looking_after(server)
    await pools.look()
    kubernetes(server)
    await pools.look()
    server.calls.clear()

    await pools.look()

    assert writes(server) == []


async def test_another_operator_goes_on_from_what_is_there_without_a_change() -> None:
    server = a_namespace()
    await looking_after(server).look()
    kubernetes(server)
    (before,) = server.all(DEPLOYMENTS)

    await looking_after(server).look()

    assert server.all(DEPLOYMENTS) == [before]
    assert ready_of(server) == ("True", "AllReady")


async def test_the_operator_may_die_after_any_call_and_the_next_one_brings_it_to_its_end() -> None:
    for calls in range(8):
        server = a_namespace()
        left = iter([True] * calls)
        dying = looking_after(server, may_act=lambda left=left: next(left, False))

        await dying.look()
        await looking_after(server).look()
        kubernetes(server)
        await looking_after(server).look()

        assert ready_of(server) == ("True", "AllReady")
        assert len(server.all(DEPLOYMENTS)) == 1


async def test_a_change_of_the_scale_goes_to_the_deployment() -> None:
    server = a_namespace()
    pools = looking_after(server)
    await pools.look()

    server.objects[POOLS][NAME]["spec"]["replicas"] = 5
    await pools.look()

    assert server.objects[DEPLOYMENTS][NAME]["spec"]["replicas"] == 5


async def test_what_somebody_changes_in_the_deployment_is_set_right() -> None:
    server = a_namespace()
    pools = looking_after(server)
    await pools.look()
    (held,) = server.all(DEPLOYMENTS)

    server.put(DEPLOYMENTS, {**held, "spec": {**held["spec"], "replicas": 9}})
    await pools.look()

    assert server.objects[DEPLOYMENTS][NAME]["spec"]["replicas"] == 2


async def test_a_new_template_rolls_the_pool() -> None:
    server = a_namespace()
    pools = looking_after(server)
    await pools.look()

    server.put(TEMPLATES, a_template(image="agent:2"))
    await pools.look()

    spec = server.objects[DEPLOYMENTS][NAME]["spec"]["template"]["spec"]
    assert spec["containers"][1]["image"] == "agent:2"


async def test_a_pool_says_what_the_api_server_has_against_it_and_heals() -> None:
    server = a_namespace()
    pools = looking_after(server)
    server.rejects = lambda path, body: "limits: must be greater" if path == DEPLOYMENTS else ""
    await pools.look()
    refused = ready_of(server)

    server.rejects = lambda path, body: ""
    await pools.look()
    kubernetes(server)
    await pools.look()

    assert refused == ("False", "DeploymentRefused")
    assert ready_of(server) == ("True", "AllReady")


async def test_the_events_of_a_pod_that_is_not_ready_become_the_message() -> None:
    server = a_namespace()
    pools = looking_after(server)
    await pools.look()
    kubernetes(server, ready=1)
    labels = deployments.labels(a_pool())
    server.put(PODS, {"metadata": {"name": "p1", "uid": "u1", "labels": labels}})
    for uid, reason in (("u1", "WrongKind"), ("another", "FailedMount")):
        event = {"type": "Warning", "reason": reason, "message": "so"}
        about = {"metadata": {"name": reason}, "involvedObject": {"uid": uid}}
        server.put(EVENTS, {**about, **event})

    await pools.look()

    assert ready_of(server) == ("False", "CertificateDenied")


async def test_pools_of_another_fleet_are_left_alone() -> None:
    server = a_namespace(fleet="other")

    await looking_after(server).look()

    assert writes(server) == []


async def test_a_pool_that_cannot_be_read_does_not_keep_the_others_from_their_turn() -> None:
    server = a_namespace()
    broken = {"metadata": {"name": "a"}, "spec": {"fleet": RELEASE, "replicas": "x"}}
    server.objects[POOLS] = {"a": server.put("/elsewhere", broken), **server.objects[POOLS]}

    with pytest.raises(BadInput, match="AgentPool a cannot be read"):
        await looking_after(server).look()

    assert len(server.all(DEPLOYMENTS)) == 1


async def test_a_replica_that_does_not_lead_writes_nothing() -> None:
    server = a_namespace()

    with pytest.raises(Overtaken):
        await looking_after(server, may_act=lambda: False).reconcile(
            agentpools.read(server.objects[POOLS][NAME])
        )

    assert writes(server) == []


async def test_the_agents_of_each_pool_are_shown_and_those_of_a_pool_that_went_are_not() -> None:
    server = a_namespace()
    pools = looking_after(server)
    await pools.look()
    kubernetes(server, ready=1)
    await pools.look()
    states = ("wanted", "ready")
    assert [shown(metrics.POOL_AGENTS, pool=NAME, state=each) for each in states] == [2, 1]
    del server.objects[POOLS][NAME]
    await pools.look()
    assert [shown(metrics.POOL_AGENTS, pool=NAME, state=each) for each in states] == [0, 0]
