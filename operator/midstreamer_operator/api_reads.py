"""Reads from the API server.

The operator reads a pod at the moment a decision needs it, and does not cache pods from a watch.
A watch is late: a new pod asks for its certificate before the watch reports the pod, and a deleted
pod may stay in a watch's cache for a while.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Api, Object
from midstreamer_operator.plan.client_requests import OfAccess, OfNamespace, Question
from midstreamer_operator.plan.issuance import Policy
from midstreamer_operator.resources import (
    access_reviews,
    agentpools,
    certificate_ledger,
    client_namespace_label,
    deployments,
    pod_certificate_fields,
    pod_waits,
)
from midstreamer_operator.resources.deployments import Deployment
from midstreamer_operator.resources.pod_certificate_fields import Pod
from midstreamer_operator.resources.pod_waits import Told, Waiter
from midstreamer_operator.resources.signing_requests import SigningRequest

PAGE = "200"
"""Maximum number of objects in one page of a list: the query parameter `limit`."""
ASKED_ABOUT_MAX = 5
"""The operator reads the Events of at most this many pods of one pool. These suffice, because the
pods of a pool mostly fail for the same cause."""


async def pod(api: Api, namespace: str, name: str) -> Pod | None:
    """Return the pod of this name, None if it does not exist.

    Raise MidstreamerError when the API server cannot be asked.
    """
    found = await _object(api, f"/api/v1/namespaces/{namespace}/pods/{quote(name, safe='')}")
    return None if found is None else pod_certificate_fields.read(found)


async def answer(api: Api, request: SigningRequest, asked: Question, policy: Policy) -> bool:
    """Ask the API server a question about a client's signing request, and return the answer.

    To `OfNamespace`, the answer is whether the namespace is labelled as one whose pods may be
    clients. To `OfAccess`, it is whether the requester may `use` the client identity in question.
    """
    match asked:
        case OfNamespace(name):
            found = await _object(api, f"/api/v1/namespaces/{quote(name, safe='')}")
            return found is not None and client_namespace_label.has_clients(
                found, policy.namespace, policy.release
            )
        case OfAccess(name):
            review = access_reviews.made(request, policy.namespace, name)
            return access_reviews.is_allowed(
                (await api.ask("POST", access_reviews.PATH, review)).checked()
            )


async def config_map(api: Api, namespace: str, name: str) -> Object | None:
    """Return the ConfigMap of this name, None if it does not exist."""
    return await _object(api, kubernetes_names.config_map(namespace, name))


async def secret(api: Api, namespace: str, name: str) -> Object | None:
    """Return the Secret of this name, None if it does not exist."""
    return await _object(api, f"/api/v1/namespaces/{namespace}/secrets/{name}")


async def lease(api: Api, namespace: str, name: str) -> Object | None:
    """Return the Lease of this name, None if it does not exist."""
    return await _object(api, f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")


async def requests(api: Api, signer: str) -> AsyncIterator[Object]:
    """Yield every CertificateSigningRequest for this signer."""
    async for each in pages(
        api, kubernetes_names.REQUESTS, {"fieldSelector": f"spec.signerName={signer}"}
    ):
        yield each


async def entries(api: Api, namespace: str, release: str, uri: str = "") -> AsyncIterator[Object]:
    """Yield the ConfigMaps of an installation's ledger of certificates.

    If ``uri`` is given, yield only the entries of the identity with this URI.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    async for each in pages(
        api, path, {"labelSelector": certificate_ledger.selector(release, uri)}
    ):
        yield each


async def pools(api: Api, namespace: str) -> AsyncIterator[Object]:
    """Yield every AgentPool of a namespace."""
    async for each in pages(api, agentpools.path(namespace), {}):
        yield each


async def pod_template(api: Api, namespace: str, name: str) -> Object | None:
    """Return the PodTemplate of this name, None if it does not exist."""
    return await _object(api, f"/api/v1/namespaces/{namespace}/podtemplates/{name}")


def deployment_path(namespace: str, name: str) -> str:
    """Return the path of a Deployment at the API server."""
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


async def deployment(api: Api, namespace: str, name: str) -> Deployment | None:
    """Return the Deployment of this name, None if it does not exist."""
    found = await _object(api, deployment_path(namespace, name))
    return None if found is None else deployments.read(found)


async def waiters(api: Api, namespace: str, selector: str) -> tuple[Waiter, ...]:
    """Return every pod that ``selector`` selects, with the reason why the pod waits."""
    path, query = f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}
    return tuple([pod_waits.read(each) async for each in pages(api, path, query)])


async def warnings(api: Api, namespace: str, pod: Waiter) -> tuple[Told, ...]:
    """Return the Events of type Warning about a pod."""
    path = f"/api/v1/namespaces/{namespace}/events"
    query = {"fieldSelector": f"involvedObject.uid={pod.uid}"}
    found = [pod_waits.warning(each) async for each in pages(api, path, query)]
    return tuple(each for each in found if each is not None)


async def _object(api: Api, path: str) -> Object | None:
    answer = await api.ask("GET", path)
    return None if answer.status == 404 else answer.checked()


async def pages(
    api: Api, path: str, query: dict[str, str], *, is_known: bool = True
) -> AsyncIterator[Object]:
    """Yield every object of a list, page by page.

    If ``is_known`` is false, the cluster may lack this kind of object. If it does, this function
    yields nothing and raises no error.
    """
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
