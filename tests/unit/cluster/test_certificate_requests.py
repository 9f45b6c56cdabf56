"""A pod gets its certificate from the cluster: `Issuer` in the pod against the real signer."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer.cluster import certificate_requests, kubernetes_names
from midstreamer.cluster.certificate_requests import ClusterIssuer
from midstreamer.domain.errors import BadInput, Refused
from midstreamer.domain.identity import Kind
from midstreamer.security.credentials import Watched
from midstreamer.security.requested_credentials import RequestedSource
from midstreamer_operator import api_writes, authority
from midstreamer_operator.resources import authorities, signing_requests
from tests.support.api_server import ApiServer, Caller, User, until
from tests.support.operator_builders import (
    AUTHORITY,
    NAMESPACE,
    NOW_S,
    POLICY,
    RELEASE,
    a_name,
    a_signer,
    an_installation,
    csr_pem,
    signing,
    uri,
)

POD = f"{NAMESPACE}/agent-0"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


def an_issuer(server: ApiServer, pod: str = POD) -> ClusterIssuer:
    return ClusterIssuer(Caller(server, server.users[pod]), namespace=NAMESPACE, release=RELEASE)


async def open_request(server: ApiServer) -> str:
    """Wait until the pod watches its signing request; return the name of the only request."""
    await until(lambda: ("WATCH", kubernetes_names.REQUESTS) in server.calls)
    (request,) = server.all(kubernetes_names.REQUESTS)
    return str(request["metadata"]["name"])


async def test_a_pod_earns_its_certificate_with_a_key_that_never_leaves_it() -> None:
    server = an_installation()
    source = RequestedSource(a_name(), an_issuer(server), now=lambda: NOW_S + 1.0)
    async with signing(server), asyncio.timeout(10):
        credentials = await source.obtain()
    assert credentials.identity == a_name()
    assert credentials.anchors == (AUTHORITY.certificate,)
    assert credentials.not_after_s == NOW_S + 86_400.0
    assert "PRIVATE KEY" not in str(server.objects)
    assert server.all(kubernetes_names.REQUESTS) == []


async def test_a_denial_is_the_signers_own_words() -> None:
    server = an_installation()
    async with signing(server), asyncio.timeout(10):
        with pytest.raises(Refused, match=r"was denied: the request is for pod agent-1") as raised:
            await an_issuer(server).sign(csr_pem(uri(pod="agent-1")), a_name(pod="agent-1"))
    assert raised.value.reason == "AnotherPod"


async def test_a_pod_that_was_refused_says_why() -> None:
    server = an_installation()
    reports: list[str] = []
    source = RequestedSource(
        a_name(Kind.COORDINATOR), an_issuer(server), waits=reports.append, now=lambda: NOW_S
    )
    async with signing(server):
        task = asyncio.create_task(source.obtain())
        await until(lambda: reports)
        task.cancel()
    assert "the issuer refuses: signing request fleet.agent-0-" in source.waiting
    assert "pods of service account mid-agent have the kind agent" in source.waiting
    assert Watched.REQUEST in source.complaints


async def test_a_pod_says_what_it_waits_for_while_the_operator_is_away() -> None:
    server = an_installation()
    source = RequestedSource(a_name(), an_issuer(server), now=lambda: NOW_S + 1.0)
    task = asyncio.create_task(source.obtain())
    name = await open_request(server)
    assert source.waiting == (
        f"signing request {name} was neither approved nor denied yet;"
        f" is the operator of {NAMESPACE}/{RELEASE} running?"
    )
    async with signing(server), asyncio.timeout(10):
        assert (await task).identity == a_name()
    assert source.waiting == ""


async def test_a_request_that_is_not_waited_for_any_more_is_removed() -> None:
    server = an_installation()
    issuer = an_issuer(server)
    task = asyncio.create_task(issuer.sign(csr_pem(uri()), a_name()))
    await open_request(server)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert server.all(kubernetes_names.REQUESTS) == []
    assert issuer.waiting == ""


async def test_a_pod_that_may_not_remove_its_request_asks_for_it_once() -> None:
    def allows(user: User, verb: str, path: str) -> bool:
        return verb != "DELETE"

    server = an_installation()
    server.allows = allows
    issuer = an_issuer(server)
    async with signing(server), asyncio.timeout(10):
        for _ in range(2):
            await issuer.sign(csr_pem(uri()), a_name())
    assert [method for method, _ in server.calls].count("DELETE") == 1


async def test_a_pod_needs_no_right_but_to_create_and_watch_requests_and_read_the_bundle() -> None:
    bundle = kubernetes_names.config_map(NAMESPACE, kubernetes_names.bundle(RELEASE))

    def allows(user: User, verb: str, path: str) -> bool:
        is_allowed = (verb, path) in {
            ("POST", kubernetes_names.REQUESTS),
            ("WATCH", kubernetes_names.REQUESTS),
            ("GET", bundle),
        }
        return is_allowed or user.username == "admin"

    server = an_installation()
    server.allows = allows
    async with signing(server), asyncio.timeout(10):
        signed = await an_issuer(server).sign(csr_pem(uri()), a_name())
    assert signed.anchors == (AUTHORITY.certificate,)


async def test_a_pod_that_may_not_ask_says_what_its_role_lacks() -> None:
    server = an_installation()
    server.allows = lambda user, verb, path: verb != "POST"
    with pytest.raises(Refused, match="the role of this service account must allow it"):
        await an_issuer(server).sign(csr_pem(uri()), a_name())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Kind.AGENT, f"add {NAMESPACE}/{RELEASE} to `installations` of the chart"),
        (Kind.CLIENT, f"bind the ClusterRole midstreamer:{NAMESPACE}:{RELEASE}:client"),
    ],
)
async def test_a_pod_without_the_right_learns_first_what_an_administrator_must_do(
    kind: Kind, message: str
) -> None:
    server = an_installation()
    server.allows = lambda user, verb, path: verb != "POST"
    with pytest.raises(Refused) as raised:
        await an_issuer(server).sign(csr_pem(uri()), a_name(kind))
    assert message in raised.value.message[:200]


async def test_a_request_that_somebody_deleted_is_not_waited_for() -> None:
    server = an_installation()
    task = asyncio.create_task(an_issuer(server).sign(csr_pem(uri()), a_name()))
    name = await open_request(server)
    server.answer(server.users["admin"], "DELETE", f"{kubernetes_names.REQUESTS}/{name}", None, {})
    with pytest.raises(BadInput, match="was deleted before it was answered"):
        await task


async def test_a_watch_that_breaks_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_requests, "WATCH_S", 0.01)
    monkeypatch.setattr(certificate_requests, "AGAIN_S", 0.01)
    server = an_installation()
    task = asyncio.create_task(an_issuer(server).sign(csr_pem(uri()), a_name()))
    await until(lambda: watches(server) > 2)
    server.is_away = True
    await until(lambda: server.refused > 2)
    server.is_away = False
    async with signing(server), asyncio.timeout(10):
        assert (await task).chain


def watches(server: ApiServer) -> int:
    return server.calls.count(("WATCH", kubernetes_names.REQUESTS))


async def test_a_bundle_without_authorities_is_named() -> None:
    server = an_installation()
    server.put(MAPS, {**authorities.bundle(RELEASE, []), "data": {}})
    task = asyncio.create_task(an_issuer(server).sign(csr_pem(uri()), a_name()))
    await open_request(server)
    await a_signer(server).sweep()
    with pytest.raises(BadInput, match=f"ConfigMap {NAMESPACE}/mid-trust has no key trust.pem"):
        await task


async def test_bytes_that_are_no_certificate_are_refused() -> None:
    server = an_installation()
    await authority.published(Caller(server), POLICY, AUTHORITY)
    task = asyncio.create_task(an_issuer(server).sign(csr_pem(uri()), a_name()))
    name = await open_request(server)
    given = server.objects[kubernetes_names.REQUESTS][name]
    given = await api_writes.approve(Caller(server), given, "by hand")
    body = signing_requests.certified(given, "garbage")
    server.answer(
        server.users["admin"], "PUT", f"{kubernetes_names.REQUESTS}/{name}/status", body, {}
    )
    with pytest.raises(BadInput, match="no readable PEM"):
        await task


def test_a_request_asks_for_the_usages_of_its_kind_alone() -> None:
    assert kubernetes_names.usages(Kind.AGENT) == ("digital signature", "client auth")
    assert kubernetes_names.usages(Kind.POSTGRES) == ("digital signature", "server auth")
    assert set(kubernetes_names.usages(Kind.COORDINATOR)) == {
        "digital signature",
        "client auth",
        "server auth",
    }
