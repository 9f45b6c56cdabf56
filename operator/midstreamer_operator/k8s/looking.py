"""What `status` reads: as much as whoever asks may, and a note about the rest."""

from __future__ import annotations

import asyncio

from midstreamer.cluster.api import Api, Object
from midstreamer.domain.errors import BadInput, MidstreamerError, Refused
from midstreamer_operator import observe
from midstreamer_operator.k8s import measures, showing
from midstreamer_operator.k8s.measures import Measured
from midstreamer_operator.k8s.showing import Found
from midstreamer_operator.resources import agentpools, deployments, ledger
from midstreamer_operator.resources.ledger import Entry

FOLLOWING = ("sync", "coordinator", "agent")
HEALTH = "health"
"""The name of the port at which pods show their metrics."""
OWNERS = ("/apis/apps/v1/{}/deployments", "/apis/apps/v1/{}/statefulsets")


async def found(api: Api, namespace: str, release: str) -> Found:
    """Everything that is shown of one installation."""
    notes: list[str] = []
    mine = {"labelSelector": f"{deployments.INSTANCE}={release}"}
    space = f"namespaces/{namespace}"
    owners = []
    for path in OWNERS:
        listed = await _listed(api, path.format(space), mine, notes)
        owners += [one for one in listed if not _is_of_a_pool(one)]
    # A pool that somebody made by hand need not have our labels.
    pools = await _listed(api, agentpools.path(namespace), {}, notes)
    pods = await _listed(api, f"/api/v1/{space}/pods", mine, notes)
    return Found(
        namespace,
        release,
        pods=pods,
        measured=await _measured(api, space, pods, notes),
        owners=owners,
        pools=[one for one in pools if (one.get("spec") or {}).get("fleet") == release],
        events=await _listed(api, f"/api/v1/{space}/events", {}, notes),
        entries=await _entries(api, namespace, release, notes),
        notes=notes,
    )


async def _measured(api: Api, space: str, pods: list[Object], notes: list[str]) -> list[Measured]:
    """The metrics of ready pods that follow the feed, which the API server hands on.

    All are asked at once, because the lag is the distance between their answers.
    """
    following = [
        pod for pod in pods if showing.component_of(pod) in FOLLOWING and _health_port(pod)
    ]
    asked = [pod for pod in following if showing.is_ready(pod)]
    answers = await asyncio.gather(*(_measured_at(api, space, pod) for pod in asked))
    notes += sorted({each for each in answers if isinstance(each, str)})
    return [each for each in answers if isinstance(each, Measured)]


async def _measured_at(api: Api, space: str, pod: Object) -> Measured | str:
    """What one pod says, or why it says nothing."""
    name = str(pod["metadata"]["name"])
    path = f"/api/v1/{space}/pods/{name}:{_health_port(pod)}/proxy/metrics"
    try:
        text = (await api.ask("GET", path)).checked()
        return measures.read(name, showing.component_of(pod), str(text.get("message") or ""))
    except Refused:
        return "shards and lag: to ask pods for their metrics takes the right `get` on pods/proxy"
    except (MidstreamerError, ValueError) as error:
        return f"shards and lag of {name}: {error}"


def _health_port(pod: Object) -> int:
    containers = (pod.get("spec") or {}).get("containers") or ()
    ports = (each for one in containers for each in one.get("ports") or ())
    return next((int(each["containerPort"]) for each in ports if each.get("name") == HEALTH), 0)


def _is_of_a_pool(owner: Object) -> bool:
    owned_by = (owner.get("metadata") or {}).get("ownerReferences") or ()
    return any(each.get("kind") == agentpools.KIND for each in owned_by)


async def _listed(api: Api, path: str, query: dict[str, str], notes: list[str]) -> list[Object]:
    """A list, or nothing where there is none or it may not be read."""
    try:
        return [one async for one in observe.pages(api, path, query, is_known=False)]
    except Refused as error:
        notes.append(error.message)
    return []


async def _entries(api: Api, namespace: str, release: str, notes: list[str]) -> list[Entry]:
    entries = []
    try:
        async for given in observe.entries(api, namespace, release):
            try:
                entries.append(ledger.read(given))
            except BadInput as error:
                notes.append(error.message)
    except Refused as error:
        notes.append(error.message)
    return entries
