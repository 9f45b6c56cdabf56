"""Find and delete the objects that an uninstalled release leaves, for `midstreamer-k8s purge`."""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Api
from midstreamer.domain.errors import BadInput
from midstreamer_operator import api_reads
from midstreamer_operator.resources import authorities, deployments, passwords
from midstreamer_operator.resources.pod_certificate_fields import ENDED


@dataclass(frozen=True)
class Left:
    """One object that an uninstalled release left in the cluster."""

    what: str
    """Kind and name of the object, and what is lost when the object is deleted."""
    path: str
    """Path of the object at the API server."""


async def left(api: Api, namespace: str, release: str) -> list[Left]:
    """Return the objects that a release left; raise BadInput while its pods still run."""
    space = f"/api/v1/namespaces/{namespace}"
    mine = {"labelSelector": f"{deployments.INSTANCE}={release}"}
    pods = (await api.ask("GET", f"{space}/pods", query=mine)).checked()["items"]
    # Pods that have ended do not count as running: Helm leaves the pod of `helm test` behind.
    ended = [pod for pod in pods if (pod.get("status") or {}).get("phase") in ENDED]
    pods = [pod for pod in pods if pod not in ended]
    if pods:
        raise BadInput(
            f"{namespace}/{release} still has {len(pods)} pods, such as"
            f" {pods[0]['metadata']['name']}; run first:"
            f" helm uninstall {release} --namespace {namespace} --wait"
        )
    found = [
        Left(f"Pod {name}: it has ended", f"{space}/pods/{name}")
        for name in (pod["metadata"]["name"] for pod in ended)
    ]
    claims = (await api.ask("GET", f"{space}/persistentvolumeclaims", query=mine)).checked()
    names = {claim["metadata"]["name"] for claim in claims["items"]}
    for name in sorted({*names, f"data-{release}-postgres-0"}):
        path = f"{space}/persistentvolumeclaims/{name}"
        if await _is_there(api, path):
            found.append(Left(f"PersistentVolumeClaim {name}: all ticks and decisions", path))
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    authority, password = authorities.secret_name(release), passwords.secret_name(release)
    trust = kubernetes_names.bundle(release)
    for what, path in (
        (
            f"Secret {authority}: the authority; all certificates become invalid",
            f"{space}/secrets/{authority}",
        ),
        (f"Secret {password}: the password of the database", f"{space}/secrets/{password}"),
        (
            f"ConfigMap {trust}: the trusted authorities",
            kubernetes_names.config_map(namespace, trust),
        ),
        (f"Lease {release}-operator", f"{leases}/{release}-operator"),
    ):
        if await _is_there(api, path):
            found.append(Left(what, path))
    async for entry in api_reads.entries(api, namespace, release):
        name = entry["metadata"]["name"]
        found.append(
            Left(
                f"ConfigMap {name}: an entry of the ledger of certificates",
                kubernetes_names.config_map(namespace, name),
            )
        )
    return found


async def remove(api: Api, left: Left) -> None:
    """Delete one object; an object that is missing by now counts as deleted."""
    (await api.ask("DELETE", left.path)).checked((200, 202, 404))


async def _is_there(api: Api, path: str) -> bool:
    answer = await api.ask("GET", path)
    if answer.status == 404:
        return False
    answer.checked()
    return True
