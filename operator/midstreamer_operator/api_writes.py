"""Writes to the API server: one function for each step; no function here decides anything.

When an object has changed since the operator read it, the API server refuses the write, and
`Overtaken` is raised.  `Overtaken` is not a failure: the caller reads the object again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from midstreamer.cluster import kubernetes_names, pod_events
from midstreamer.cluster.api import Answer, Api, Object
from midstreamer.domain.errors import Conflict, shortened
from midstreamer.security.authority import Authority
from midstreamer.security.files import pem_of
from midstreamer_operator import api_reads
from midstreamer_operator.plan.denial_reasons import Reason
from midstreamer_operator.plan.issuance import Policy, Sign
from midstreamer_operator.resources import certificate_ledger, signing_requests
from midstreamer_operator.resources.certificate_ledger import Entry
from midstreamer_operator.resources.signing_requests import (
    APPROVED,
    DENIED,
    FAILED,
    Condition,
    SigningRequest,
)

DAY_S = 86_400.0
AGREES = "IdentityAgrees"
"""Reason in the condition of a signing request that the operator approves."""
CONDITION_CHARACTERS_MAX = 1000
"""Maximum number of characters of a condition's message; longer messages are shortened."""
COMPONENT = "midstreamer-operator"
"""Name of the operator as the source of Events and as the field manager of applied objects."""


class Overtaken(Exception):
    """An object to be written was changed or deleted by somebody else since it was read."""


async def approve(api: Api, given: Object, message: str) -> Object:
    """Approve a signing request, and return the updated request.

    Raise Overtaken if somebody else has changed the request since it was read.
    """
    condition = Condition(APPROVED, reason=AGREES, message=message)
    return await _put(api, given, "approval", signing_requests.conditioned(given, condition))


async def deny(api: Api, given: Object, reason: Reason, message: str) -> Object:
    """Deny a signing request, and return the updated request.

    Raise Overtaken if somebody else has changed the request since it was read.
    """
    condition = Condition(DENIED, reason=reason, message=_short(message))
    return await _put(api, given, "approval", signing_requests.conditioned(given, condition))


async def fail(api: Api, given: Object, reason: Reason, message: str) -> Object:
    """Mark an approved signing request as failed, so that nobody signs it.

    Return the updated request.  Raise Overtaken if somebody else has changed the request since it
    was read.
    """
    condition = Condition(FAILED, reason=reason, message=_short(message))
    return await _put(api, given, "status", signing_requests.conditioned(given, condition))


async def hand_over(api: Api, given: Object, entry: Entry) -> Object:
    """Write the certificate of a ledger entry into ``given``, the signing request of that entry.

    Return the updated request.  Raise Overtaken if somebody else has changed the request since it
    was read.
    """
    return await _put(api, given, "status", signing_requests.certified(given, entry.certificate))


async def record(
    api: Api,
    request: SigningRequest,
    sign: Sign,
    policy: Policy,
    authority: Authority,
    now_s: float,
) -> Entry:
    """Make a certificate and write it into the ledger; return its entry.

    When the ledger already has an entry for this request, return that entry instead.  Raise
    Conflict when that entry is for another identity or another key.
    """
    entry = certified(request, sign, authority, now_s)
    manifest = certificate_ledger.written(policy.release, request.uid, entry)
    path = f"/api/v1/namespaces/{policy.namespace}/configmaps"
    answer = await api.ask("POST", path, manifest)
    if answer.status != 409:
        answer.checked()
        return entry
    name = certificate_ledger.name(policy.release, request.uid)
    existing = await api_reads.config_map(api, policy.namespace, name)
    if existing is None:
        raise Overtaken(
            f"ConfigMap {policy.namespace}/{name} existed a moment ago and has been deleted"
        )
    first = certificate_ledger.read(existing)
    if (first.id, first.key_hash) != (entry.id, entry.key_hash):
        raise Conflict(
            f"ConfigMap {policy.namespace}/{name} records a certificate of {first.id} with key"
            f" {first.key_hash}, but signing request {request.name} asks for {entry.id} with key"
            f" {entry.key_hash}; delete the ConfigMap if nobody needs that certificate"
        )
    return first


def certified(request: SigningRequest, sign: Sign, authority: Authority, now_s: float) -> Entry:
    """Sign a new certificate and return its ledger entry.

    The certificate expires no later than the certificate of its authority.
    """
    authority_ends_s = authority.certificate.not_valid_after_utc.timestamp()
    life_s = min(sign.life_s, authority_ends_s - now_s)
    csr = x509.load_pem_x509_csr(request.pem)
    leaf = authority.sign(
        csr, sign.identity, now_s=now_s, days=life_s / DAY_S, dns_names=sign.host_names
    )
    return Entry(
        serial=f"{leaf.serial_number:x}",
        key_hash=key_hash(csr),
        id=sign.identity.uri,
        authority=authority.certificate.fingerprint(hashes.SHA256()).hex(),
        ends=f"{leaf.not_valid_after_utc.timestamp():.0f}",
        request=request.name,
        certificate=pem_of(authority.chain(leaf)).decode(),
    )


def key_hash(holder: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return the SHA-256 of the public key (its SubjectPublicKeyInfo), hexadecimal."""
    key = holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(key).hexdigest()


async def tell(
    api: Api,
    request: SigningRequest,
    policy: Policy,
    own: tuple[str, str],
    *,
    reason: Reason,
    message: str,
    now_s: float,
) -> None:
    """Write an Event about the requester's pod.

    Kubernetes wants an Event in the namespace of the object that it is about, and the operator may
    write Events only in its own namespace. So an Event about a requester of another namespace is
    attached to the operator's own pod instead. ``own`` is the name and uid of that pod.
    """
    is_ours = request.account[0] == policy.namespace and request.pod_name
    pod, uid = (request.pod_name, request.pod_uid) if is_ours else own
    if not pod:
        return
    event = pod_events.written(
        pod_events.Pod(policy.namespace, pod, uid),
        about=request.uid,
        reason=reason,
        message=f"signing request {request.name}: {message}",
        component=COMPONENT,
        now_s=now_s,
    )
    answer = await api.ask("POST", pod_events.path(policy.namespace), event)
    answer.checked((200, 201, 409))


async def forget(api: Api, namespace: str, name: str) -> None:
    """Delete an entry of the ledger, the ConfigMap ``name``; do nothing when it is missing."""
    answer = await api.ask("DELETE", kubernetes_names.config_map(namespace, name))
    answer.checked((200, 202, 404))


async def create(api: Api, path: str, made: Object) -> Object | None:
    """Create the object ``made``; return None when an object of its name exists already."""
    answer = await api.ask("POST", path, made)
    return None if answer.status == 409 else answer.checked()


async def replace(api: Api, path: str, made: Object) -> Object:
    """Replace an object by ``made``; raise Overtaken when it changed since it was read."""
    return _written(await api.ask("PUT", path, made))


async def apply(api: Api, path: str, made: Mapping[str, Any]) -> Object:
    """Create or update an object by server-side apply.

    If another manager owns a field of ``made``, the operator takes the field over.  Fields of other
    managers that are not in ``made`` are kept.

    Raise BadInput or Refused when the API server rejects the object.
    """
    query = {"fieldManager": COMPONENT, "force": "true"}
    return (await api.ask("PATCH", path, dict(made), query=query)).checked()


async def _put(api: Api, given: Object, part: str, made: Object) -> Object:
    """Replace a subresource of a signing request, such as ``status``, by that of ``made``."""
    name = given["metadata"]["name"]
    return _written(await api.ask("PUT", f"{kubernetes_names.REQUESTS}/{name}/{part}", made))


def _written(answer: Answer) -> Object:
    """Return the written object; raise Overtaken when it changed or was deleted meanwhile."""
    if answer.status in (404, 409):
        raise Overtaken(str(answer.error()))
    return answer.checked()


def _short(message: str) -> str:
    return shortened(message, CONDITION_CHARACTERS_MAX)
