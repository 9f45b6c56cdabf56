"""Builders for tests of the operator: an installation, its policy, valid and forged requests."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from midstreamer.cluster import kubernetes_names
from midstreamer.domain import identity
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security.authority import Authority, establish
from midstreamer_operator import authority
from midstreamer_operator.plan.issuance import Policy
from midstreamer_operator.resources.pod_certificate_fields import Pod
from midstreamer_operator.resources.signing_requests import Condition, SigningRequest
from midstreamer_operator.signing_reconciler import Signer
from tests.support.api_server import ADMIN, ApiServer, Caller, User, a_pod_user

NAMESPACE, RELEASE, DOMAIN = "fleet", "mid", "test.local"
NOW_S = 1_800_000_000.0
UID = "6f1c9c0e-3f0a-4b52-9b0d-5b8a3c1d2e4f"
OTHER_UID = "00000000-3f0a-4b52-9b0d-5b8a3c1d2e4f"
HOSTS = ("postgres", f"postgres.{NAMESPACE}.svc")
POLICY = Policy(
    trust_domain=DOMAIN,
    namespace=NAMESPACE,
    release=RELEASE,
    kinds={
        "mid-agent": Kind.AGENT,
        "mid-coordinator": Kind.COORDINATOR,
        "mid-sync": Kind.SYNC,
        "mid-postgres": Kind.POSTGRES,
    },
    host_names={Kind.POSTGRES: frozenset(HOSTS)},
)
OWN = ("operator-0", OTHER_UID)
AUTHORITY: Authority = establish(DOMAIN, now_s=NOW_S)
KEY = ec.generate_private_key(ec.SECP256R1())


def uri(
    kind: str = "agent", namespace: str = NAMESPACE, pod: str = "agent-0", uid: str = UID
) -> str:
    return f"spiffe://{DOMAIN}/{kind}/{namespace}/{pod}/{uid}"


def a_name(kind: Kind = Kind.AGENT, pod: str = "agent-0", uid: str = UID) -> Identity:
    return identity.make(DOMAIN, kind, f"{NAMESPACE}/{pod}/{uid}")


def csr_pem(
    *uris: str,
    hosts: tuple[str, ...] = (),
    others: tuple[x509.GeneralName, ...] = (),
    extensions: tuple[x509.ExtensionType, ...] = (),
    key: Any = KEY,
    label: str = "agent-0",
) -> bytes:
    """Return a signing request in PEM with these names and extensions."""
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, hosts), *others]
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def a_request(**changes: Any) -> SigningRequest:
    """A valid request of pod agent-0, with ``changes`` to its fields."""
    user = a_pod_user(NAMESPACE, "mid-agent", "agent-0", UID)
    good = SigningRequest(
        name="mid-agent-0-x1",
        uid="c5b1",
        signer=POLICY.signer,
        pem=csr_pem(uri()),
        usages=kubernetes_names.usages(Kind.AGENT),
        username=user.username,
        groups=user.groups,
        pod_name="agent-0",
        pod_uid=UID,
        expires_s=86_400,
    )
    return _with(good, changes)


def a_database_request(**changes: Any) -> SigningRequest:
    """A valid request of pod postgres-0, with ``changes`` to its fields."""
    user = a_pod_user(NAMESPACE, "mid-postgres", "postgres-0", UID)
    good = a_request(
        pem=csr_pem(uri("postgres", pod="postgres-0"), hosts=HOSTS),
        usages=kubernetes_names.usages(Kind.POSTGRES),
        username=user.username,
        pod_name="postgres-0",
    )
    return _with(good, changes)


CLIENTS = "app"
"""A namespace whose pods may be clients."""
LABEL = f"midstreamer.dev/{NAMESPACE}.{RELEASE}"


def a_client_request(**changes: Any) -> SigningRequest:
    """A valid request for a client certificate, by pod shop-0 of the namespace `CLIENTS`."""
    user = a_pod_user(CLIENTS, "default", "shop-0", UID)
    good = a_request(
        signer=POLICY.client_signer,
        pem=csr_pem(uri("client", CLIENTS, "shop-0")),
        usages=kubernetes_names.usages(Kind.CLIENT),
        username=user.username,
        groups=user.groups,
        pod_name="shop-0",
    )
    return _with(good, changes)


def a_persons_request(**changes: Any) -> SigningRequest:
    """A valid request of the user jane for the identity client/desk-1."""
    good = a_request(
        signer=POLICY.client_signer,
        pem=csr_pem(f"spiffe://{DOMAIN}/client/desk-1"),
        usages=kubernetes_names.usages(Kind.CLIENT),
        username="jane",
        groups=("desks", "system:authenticated"),
        pod_name="",
        pod_uid="",
        user_uid="u-7",
        extra={"example.org/team": ("desks",)},
    )
    return _with(good, changes)


def _with(good: SigningRequest, changes: dict[str, Any]) -> SigningRequest:
    return msgspec.structs.replace(good, **changes)


def a_pod(**changes: Any) -> Pod:
    """The pod agent-0, which sends the request of `a_request`."""
    return msgspec.structs.replace(Pod("agent-0", UID, "mid-agent"), **changes)


def approved(by: str = "IdentityAgrees") -> tuple[Condition, ...]:
    return (Condition("Approved", reason=by),)


def an_installation() -> ApiServer:
    """An API server with the pods agent-0, postgres-0 and shop-0, and the user jane."""
    server = ApiServer()
    server.pod(NAMESPACE, "agent-0", "mid-agent", uid=UID)
    server.pod(NAMESPACE, "postgres-0", "mid-postgres", uid=UID)
    server.namespace(CLIENTS, **{LABEL: "client"})
    server.pod(CLIENTS, "shop-0", "default", uid=UID)
    server.users["jane"] = User("jane", ("desks", "system:authenticated"))
    return server


def a_signer(server: ApiServer, **changes: Any) -> Signer:
    """The signer of the installation, with ``changes`` to its fields."""
    signer = Signer(Caller(server, ADMIN), POLICY, AUTHORITY, OWN, lambda: NOW_S)
    return replace(signer, **changes)


@asynccontextmanager
async def signing(server: ApiServer, **changes: Any) -> AsyncIterator[None]:
    """A running signer that handles each signing request as soon as the request exists."""
    signer = a_signer(server, **changes)
    await authority.published(signer.api, POLICY, signer.authority)

    async def work() -> None:
        async for change in signer.api.watch(kubernetes_names.REQUESTS, {}, lasts_s=600):
            if change.type != "DELETED":
                await signer.handle(change.object)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def signing_now(server: ApiServer) -> AbstractAsyncContextManager[None]:
    """A running signer on the real clock, for tests that check the dates of certificates."""
    now_s = time.time()
    return signing(server, now=time.time, authority=establish(DOMAIN, now_s=now_s))


def posted(
    server: ApiServer, pem: bytes = b"", *, by: str = f"{NAMESPACE}/agent-0", **spec: Any
) -> dict[str, Any]:
    """Post a signing request as a pod does; return the stored object."""
    request = {
        "metadata": {"name": f"csr-{uuid.uuid4().hex[:8]}"},
        "spec": {
            "request": base64.b64encode(pem or csr_pem(uri())).decode(),
            "signerName": POLICY.signer,
            "usages": list(kubernetes_names.usages(Kind.AGENT)),
            "expirationSeconds": 86_400,
            **spec,
        },
    }
    status, found = server.answer(server.users[by], "POST", kubernetes_names.REQUESTS, request, {})
    assert status == 201, found
    return found
