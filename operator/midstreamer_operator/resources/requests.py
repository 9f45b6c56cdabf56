"""A CertificateSigningRequest, as far as it is judged by."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer.cluster import naming
from midstreamer_operator.resources.reading import Meta, converted

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
ACCOUNT_PREFIX = "system:serviceaccount:"
TRUE = "True"


class Condition(msgspec.Struct, frozen=True):
    """One condition of a request; approvers and signers write them."""

    type: str
    status: str = TRUE
    reason: str = ""
    message: str = ""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    signer_name: str = ""
    request: str = ""
    usages: tuple[str, ...] = ()
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}
    expiration_seconds: int | None = None


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[Condition, ...] = ()
    certificate: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    spec: _Spec = _Spec()
    status: _Status = _Status()


class SigningRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a certificate.

    ``pem`` and ``usages`` are the requester's words.  ``username``, ``groups``, ``pod_name`` and
    ``pod_uid`` are what the API server itself wrote about him.
    """

    name: str
    uid: str
    signer: str
    pem: bytes = b""
    """The request that was made with the key; empty when it is not base64."""
    usages: tuple[str, ...] = ()
    username: str = ""
    groups: tuple[str, ...] = ()
    pod_name: str = ""
    pod_uid: str = ""
    """Of the pod to which the requester's token is bound; empty when it is bound to none."""
    user_uid: str = ""
    extra: dict[str, tuple[str, ...]] = {}
    """The rest of what the API server wrote about the requester: a review of access wants it."""
    expires_s: int | None = None
    """Life that is asked for, in seconds."""
    conditions: tuple[Condition, ...] = ()
    has_certificate: bool = False

    @property
    def account(self) -> tuple[str, str]:
        """Namespace and name of the requester's service account; empty when he is none."""
        namespace, _, name = self.username.removeprefix(ACCOUNT_PREFIX).partition(":")
        is_account = self.username.startswith(ACCOUNT_PREFIX)
        return (namespace, name) if is_account and namespace and name else ("", "")

    def has(self, type: str) -> bool:
        """Whether a condition of this type is there; those of requests are never false."""
        return any(each.type == type for each in self.conditions)


def read(given: Mapping[str, Any]) -> SigningRequest:
    """A request from the object that the API server gave; BadInput when it is none."""
    made = converted(given, _Object, "signing request")
    meta, spec, status = made.metadata, made.spec, made.status
    return SigningRequest(
        name=meta.name,
        uid=meta.uid,
        signer=spec.signer_name,
        pem=_decoded(spec.request),
        usages=spec.usages,
        username=spec.username,
        groups=spec.groups,
        pod_name=_only(spec.extra.get(naming.POD_NAME, ())),
        pod_uid=_only(spec.extra.get(naming.POD_UID, ())),
        user_uid=spec.uid,
        extra=spec.extra,
        expires_s=spec.expiration_seconds,
        conditions=status.conditions,
        has_certificate=bool(status.certificate),
    )


def signer_of(given: Mapping[str, Any]) -> str:
    """Whose request an object is, without reading the rest."""
    spec = given.get("spec") or {}
    return str(spec.get("signerName") or "")


def conditioned(given: Mapping[str, Any], condition: Condition) -> dict[str, Any]:
    """The object with one condition more, as ``/approval`` and ``/status`` take it."""
    status = dict(given.get("status") or {})
    conditions = [*(status.get("conditions") or ()), msgspec.to_builtins(condition)]
    return {**given, **_KIND, "status": {**status, "conditions": conditions}}


def certified(given: Mapping[str, Any], chain_pem: str) -> dict[str, Any]:
    """The object with its certificate, as ``/status`` takes it."""
    status = dict(given.get("status") or {})
    encoded = base64.b64encode(chain_pem.encode()).decode()
    return {**given, **_KIND, "status": {**status, "certificate": encoded}}


_KIND = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
"""Objects out of a list say neither."""


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _only(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else ""
