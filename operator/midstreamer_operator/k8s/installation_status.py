"""Read what `midstreamer-k8s status` shows.

The user need not have the right to read everything: a note names what could not be read.
"""

from __future__ import annotations

import asyncio

from midstreamer.cluster.api import Api, Object
from midstreamer.domain.errors import BadInput, MidstreamerError, Refused
from midstreamer_operator import api_reads
from midstreamer_operator.k8s import pod_shard_lag, status_lines
from midstreamer_operator.k8s.pod_shard_lag import Measured
from midstreamer_operator.k8s.status_lines import Found
from midstreamer_operator.resources import agentpools, certificate_ledger, deployments
from midstreamer_operator.resources.certificate_ledger import Entry

FOLLOWING = ("sync", "coordinator", "agent")
"""Components whose pods follow the change feed."""
HEALTH = "health"
"""Name of the container port at which pods serve their metrics."""
OWNERS = ("/apis/apps/v1/{}/deployments", "/apis/apps/v1/{}/statefulsets")


async def found(api: Api, namespace: str, release: str) -> Found:
    """Read everything that `midstreamer-k8s status` shows about an installation."""
    notes: list[str] = []
    mine = {"labelSelector": f"{deployments.INSTANCE}={release}"}
    space = f"namespaces/{namespace}"
    owners = []
    for path in OWNERS:
        listed = await _listed(api, path.format(space), mine, notes)
        owners += [each for each in listed if not _is_of_a_pool(each)]
    # All pools of the namespace are listed, not only those with the labels of the release, because
    # a pool that was created by hand may lack these labels.
    pools = await _listed(api, agentpools.path(namespace), {}, notes)
    pods = await _listed(api, f"/api/v1/{space}/pods", mine, notes)
    return Found(
        namespace,
        release,
        pods=pods,
        measured=await _measured(api, space, pods, notes),
        owners=owners,
        pools=[each for each in pools if (each.get("spec") or {}).get("fleet") == release],
        events=await _listed(api, f"/api/v1/{space}/events", {}, notes),
        entries=await _entries(api, namespace, release, notes),
        notes=notes,
    )


async def _measured(api: Api, space: str, pods: list[Object], notes: list[str]) -> list[Measured]:
    """Read the metrics of ready pods that follow the change feed, through the API server's proxy.

    All pods are asked at the same time, because lag is the distance between their positions.
    """
    following = [
        pod for pod in pods if status_lines.component_of(pod) in FOLLOWING and _health_port(pod)
    ]
    asked = [pod for pod in following if status_lines.is_ready(pod)]
    answers = await asyncio.gather(*(_measured_at(api, space, pod) for pod in asked))
    notes += sorted({each for each in answers if isinstance(each, str)})
    return [each for each in answers if isinstance(each, Measured)]


async def _measured_at(api: Api, space: str, pod: Object) -> Measured | str:
    """Return the metrics of one pod, or a note that says why they cannot be read."""
    name = str(pod["metadata"]["name"])
    path = f"/api/v1/{space}/pods/{name}:{_health_port(pod)}/proxy/metrics"
    try:
        text = (await api.ask("GET", path)).checked()
        return pod_shard_lag.read(
            name, status_lines.component_of(pod), str(text.get("message") or "")
        )
    except Refused:
        return "shards and lag: reading metrics of pods needs the right `get` on pods/proxy"
    except (MidstreamerError, ValueError) as error:
        return f"shards and lag of {name}: {error}"


def _health_port(pod: Object) -> int:
    """Return the number of the pod's port named `health`, 0 when it has none."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    ports = (port for container in containers for port in container.get("ports") or ())
    return next((int(port["containerPort"]) for port in ports if port.get("name") == HEALTH), 0)


def _is_of_a_pool(owner: Object) -> bool:
    owned_by = (owner.get("metadata") or {}).get("ownerReferences") or ()
    return any(each.get("kind") == agentpools.KIND for each in owned_by)


async def _listed(api: Api, path: str, query: dict[str, str], notes: list[str]) -> list[Object]:
    """Return a list of objects; empty when the cluster lacks the kind or the user may not read it.

    A note is added when the user may not read it.
    """
    try:
        return [item async for item in api_reads.pages(api, path, query, is_known=False)]
    except Refused as error:
        notes.append(error.message)
    return []


async def _entries(api: Api, namespace: str, release: str, notes: list[str]) -> list[Entry]:
    """Return the entries of the ledger; for each entry that cannot be read, add a note instead."""
    entries = []
    try:
        async for given in api_reads.entries(api, namespace, release):
            try:
                entries.append(certificate_ledger.read(given))
            except BadInput as error:
                notes.append(error.message)
    except Refused as error:
        notes.append(error.message)
    return entries
