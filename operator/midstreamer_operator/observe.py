"""Reading from the API server.

A pod is read when a decision needs it, not kept from a watch: a new pod asks for its certificate
before a watch tells of it, and one that was deleted may stay in a watch for a while.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from midstreamer.cluster import naming
from midstreamer.cluster.api import Api, Object
from midstreamer_operator.plan.clients import OfAccess, OfNamespace, Question
from midstreamer_operator.plan.issuance import Policy
from midstreamer_operator.resources import (
    agentpools,
    deployments,
    ledger,
    namespaces,
    pods,
    reviews,
    waiting,
)
from midstreamer_operator.resources.deployments import Deployment
from midstreamer_operator.resources.pods import Pod
from midstreamer_operator.resources.requests import SigningRequest
from midstreamer_operator.resources.waiting import Told, Waiter

PAGE = "200"
ASKED_ABOUT_MAX = 5
"""Events of so many pods of a pool are read: what is wrong is mostly wrong with all."""


async def pod(api: Api, namespace: str, name: str) -> Pod | None:
    """The pod of this name, or None; an error when the API server does not say."""
    found = await _object(api, f"/api/v1/namespaces/{namespace}/pods/{quote(name, safe='')}")
    return None if found is None else pods.read(found)


async def answer(api: Api, request: SigningRequest, asked: Question, policy: Policy) -> bool:
    """The API server's answer to what a decision about a client depends on."""
    match asked:
        case OfNamespace(name):
            found = await _object(api, f"/api/v1/namespaces/{quote(name, safe='')}")
            return found is not None and namespaces.has_clients(
                found, policy.namespace, policy.release
            )
        case OfAccess(name):
            review = reviews.made(request, policy.namespace, name)
            return reviews.is_allowed((await api.ask("POST", reviews.PATH, review)).checked())


async def config_map(api: Api, namespace: str, name: str) -> Object | None:
    """The ConfigMap of this name, or None."""
    return await _object(api, naming.config_map(namespace, name))


async def secret(api: Api, namespace: str, name: str) -> Object | None:
    """The Secret of this name, or None."""
    return await _object(api, f"/api/v1/namespaces/{namespace}/secrets/{name}")


async def lease(api: Api, namespace: str, name: str) -> Object | None:
    """The Lease of this name, or None."""
    return await _object(api, f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")


async def requests(api: Api, signer: str) -> AsyncIterator[Object]:
    """Every signing request for a signer."""
    async for each in pages(api, naming.REQUESTS, {"fieldSelector": f"spec.signerName={signer}"}):
        yield each


async def entries(api: Api, namespace: str, release: str, uri: str = "") -> AsyncIterator[Object]:
    """Every entry of an installation's ledger, or those of one identity."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    async for each in pages(api, path, {"labelSelector": ledger.selector(release, uri)}):
        yield each


async def pools(api: Api, namespace: str) -> AsyncIterator[Object]:
    """Every pool of agents of a namespace."""
    async for each in pages(api, agentpools.path(namespace), {}):
        yield each


async def pod_template(api: Api, namespace: str, name: str) -> Object | None:
    """The PodTemplate of this name, or None."""
    return await _object(api, f"/api/v1/namespaces/{namespace}/podtemplates/{name}")


def deployment_path(namespace: str, name: str) -> str:
    """Where the API server has a Deployment."""
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


async def deployment(api: Api, namespace: str, name: str) -> Deployment | None:
    """The Deployment of this name, or None."""
    found = await _object(api, deployment_path(namespace, name))
    return None if found is None else deployments.read(found)


async def waiters(api: Api, namespace: str, selector: str) -> tuple[Waiter, ...]:
    """Every pod of a pool, with what it waits for."""
    path, query = f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}
    return tuple([waiting.read(each) async for each in pages(api, path, query)])


async def warnings(api: Api, namespace: str, pod: Waiter) -> tuple[Told, ...]:
    """The warnings about a pod."""
    path = f"/api/v1/namespaces/{namespace}/events"
    query = {"fieldSelector": f"involvedObject.uid={pod.uid}"}
    found = [waiting.warning(each) async for each in pages(api, path, query)]
    return tuple(each for each in found if each is not None)


async def _object(api: Api, path: str) -> Object | None:
    answer = await api.ask("GET", path)
    return None if answer.status == 404 else answer.checked()


async def pages(
    api: Api, path: str, query: dict[str, str], *, is_known: bool = True
) -> AsyncIterator[Object]:
    """Every object of a list; none of a kind that the cluster need not know and does not."""
    wanted = {**query, "limit": PAGE}
    while True:
        answer = await api.ask("GET", path, query=wanted)
        if answer.status == 404 and not is_known:
            return
        page = answer.checked()
        for each in page.get("items") or ():
            yield each
        following = (page.get("metadata") or {}).get("continue")
        if not following:
            return
        wanted["continue"] = following
