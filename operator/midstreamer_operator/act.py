"""Writing to the API server: one call for each step, and nothing is decided here.

Where somebody else was faster the API server refuses to write, and `Overtaken` is raised: no error,
but a reason to look again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from midstreamer.cluster import events, naming
from midstreamer.cluster.api import Answer, Api, Object
from midstreamer.domain.errors import Conflict, shortened
from midstreamer.security.authority import Authority
from midstreamer.security.files import pem_of
from midstreamer_operator import observe
from midstreamer_operator.plan.issuance import Policy, Sign
from midstreamer_operator.plan.reasons import Reason
from midstreamer_operator.resources import ledger, requests
from midstreamer_operator.resources.ledger import Entry
from midstreamer_operator.resources.requests import (
    APPROVED,
    DENIED,
    FAILED,
    Condition,
    SigningRequest,
)

DAY_S = 86_400.0
AGREES = "IdentityAgrees"
CONDITION_CHARACTERS_MAX = 1000
COMPONENT = "midstreamer-operator"


class Overtaken(Exception):
    """What was to be written has been changed by somebody else since it was read."""


async def approve(api: Api, given: Object, message: str) -> Object:
    """Approve a request; returns it as it is then."""
    condition = Condition(APPROVED, reason=AGREES, message=message)
    return await _put(api, given, "approval", requests.conditioned(given, condition))


async def deny(api: Api, given: Object, reason: Reason, message: str) -> Object:
    """Deny a request; returns it as it is then."""
    condition = Condition(DENIED, reason=reason, message=_short(message))
    return await _put(api, given, "approval", requests.conditioned(given, condition))


async def fail(api: Api, given: Object, reason: Reason, message: str) -> Object:
    """Say of an approved request that it will not be signed; returns it as it is then."""
    condition = Condition(FAILED, reason=reason, message=_short(message))
    return await _put(api, given, "status", requests.conditioned(given, condition))


async def hand_over(api: Api, given: Object, entry: Entry) -> Object:
    """Put the certificate of the ledger into its request; returns it as it is then."""
    return await _put(api, given, "status", requests.certified(given, entry.certificate))


async def record(
    api: Api,
    request: SigningRequest,
    sign: Sign,
    policy: Policy,
    authority: Authority,
    now_s: float,
) -> Entry:
    """Make a certificate and write it into the ledger; the one that is there already, if any."""
    entry = certified(request, sign, authority, now_s)
    made = ledger.written(policy.release, request.uid, entry)
    path = f"/api/v1/namespaces/{policy.namespace}/configmaps"
    answer = await api.ask("POST", path, made)
    if answer.status != 409:
        answer.checked()
        return entry
    name = ledger.name(policy.release, request.uid)
    there = await observe.config_map(api, policy.namespace, name)
    if there is None:
        raise Overtaken(f"ConfigMap {policy.namespace}/{name} was there, and is gone")
    first = ledger.read(there)
    if (first.id, first.key_hash) != (entry.id, entry.key_hash):
        raise Conflict(
            f"ConfigMap {policy.namespace}/{name} records a certificate of {first.id} for another"
            f" key than signing request {request.name} has; delete it if nobody needs it"
        )
    return first


def certified(request: SigningRequest, sign: Sign, authority: Authority, now_s: float) -> Entry:
    """A new certificate, as the ledger has it; it ends no later than its authority."""
    authority_ends_s = authority.certificate.not_valid_after_utc.timestamp()
    life_s = min(sign.life_s, authority_ends_s - now_s)
    made = x509.load_pem_x509_csr(request.pem)
    leaf = authority.sign(
        made, sign.identity, now_s=now_s, days=life_s / DAY_S, dns_names=sign.host_names
    )
    return Entry(
        serial=f"{leaf.serial_number:x}",
        key_hash=key_hash(made),
        id=sign.identity.uri,
        authority=authority.certificate.fingerprint(hashes.SHA256()).hex(),
        ends=f"{leaf.not_valid_after_utc.timestamp():.0f}",
        request=request.name,
        certificate=pem_of(authority.chain(leaf)).decode(),
    )


def key_hash(holder: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """SHA-256 of a public key, hexadecimal."""
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

    An Event stands in the namespace of what it is about, and we may write in our own alone: one
    about a requester from elsewhere is written about ``own``, name and uid of the operator's pod.
    """
    is_ours = request.account[0] == policy.namespace and request.pod_name
    pod, uid = (request.pod_name, request.pod_uid) if is_ours else own
    if not pod:
        return
    made = events.written(
        namespace=policy.namespace,
        pod=pod,
        uid=uid,
        about=request.uid,
        reason=reason,
        message=f"signing request {request.name}: {message}",
        component=COMPONENT,
        now_s=now_s,
    )
    answer = await api.ask("POST", events.path(policy.namespace), made)
    answer.checked((200, 201, 409))


async def forget(api: Api, namespace: str, name: str) -> None:
    """Delete an entry of the ledger."""
    answer = await api.ask("DELETE", naming.config_map(namespace, name))
    answer.checked((200, 202, 404))


async def create(api: Api, path: str, made: Object) -> Object | None:
    """Create an object; None when one of its name is there already."""
    answer = await api.ask("POST", path, made)
    return None if answer.status == 409 else answer.checked()


async def replace(api: Api, path: str, made: Object) -> Object:
    """Replace an object as it was read; Overtaken when it has changed since."""
    return _written(await api.ask("PUT", path, made))


async def apply(api: Api, path: str, made: Mapping[str, Any]) -> Object:
    """Have the API server make an object so, or create it: fields that we do not name stay.

    A field that somebody else has set otherwise is ours again.  BadInput or Refused when the
    server does not let it pass.
    """
    query = {"fieldManager": COMPONENT, "force": "true"}
    return (await api.ask("PATCH", path, dict(made), query=query)).checked()


async def _put(api: Api, given: Object, part: str, made: Object) -> Object:
    name = given["metadata"]["name"]
    return _written(await api.ask("PUT", f"{naming.REQUESTS}/{name}/{part}", made))


def _written(answer: Answer) -> Object:
    if answer.status in (404, 409):
        raise Overtaken(str(answer.error()))
    return answer.checked()


def _short(message: str) -> str:
    return shortened(message, CONDITION_CHARACTERS_MAX)
