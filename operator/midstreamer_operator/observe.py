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
from midstreamer_operator.resources import ledger, namespaces, pods, reviews
from midstreamer_operator.resources.pods import Pod
from midstreamer_operator.resources.requests import SigningRequest

PAGE = "200"


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
    async for each in _pages(api, naming.REQUESTS, {"fieldSelector": f"spec.signerName={signer}"}):
        yield each


async def entries(api: Api, namespace: str, release: str) -> AsyncIterator[Object]:
    """Every entry of an installation's ledger."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    async for each in _pages(api, path, {"labelSelector": ledger.selector(release)}):
        yield each


async def _object(api: Api, path: str) -> Object | None:
    answer = await api.ask("GET", path)
    return None if answer.status == 404 else answer.checked()


async def _pages(api: Api, path: str, query: dict[str, str]) -> AsyncIterator[Object]:
    wanted = {**query, "limit": PAGE}
    while True:
        page = (await api.ask("GET", path, query=wanted)).checked()
        for each in page.get("items") or ():
            yield each
        following = (page.get("metadata") or {}).get("continue")
        if not following:
            return
        wanted["continue"] = following
