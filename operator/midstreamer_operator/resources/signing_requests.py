"""Read the fields of a CertificateSigningRequest that decisions need, and make changed copies."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer.cluster import kubernetes_names
from midstreamer_operator.resources.object_reading import Meta, converted

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
ACCOUNT_PREFIX = "system:serviceaccount:"
TRUE = "True"


class Condition(msgspec.Struct, frozen=True):
    """One condition of a signing request, written by an approver or a signer."""

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
    """A CertificateSigningRequest as it was read from the API server.

    The requester chose ``pem``, ``usages`` and ``expires_s``.  The API server itself wrote who the
    requester is: ``username``, ``user_uid``, ``groups``, ``extra``, ``pod_name`` and ``pod_uid``.
    """

    name: str
    uid: str
    signer: str
    pem: bytes = b""
    """PKCS #10 request as PEM; empty when it is not base64."""
    usages: tuple[str, ...] = ()
    username: str = ""
    groups: tuple[str, ...] = ()
    pod_name: str = ""
    """Name of the pod that the requester's token is bound to; empty when it is bound to none."""
    pod_uid: str = ""
    """Uid of the pod that the requester's token is bound to; empty when it is bound to none."""
    user_uid: str = ""
    extra: dict[str, tuple[str, ...]] = {}
    """Further attributes of the requester, which a SubjectAccessReview needs."""
    expires_s: int | None = None
    """Requested lifetime of the certificate in seconds; None when it is left open."""
    conditions: tuple[Condition, ...] = ()
    has_certificate: bool = False

    @property
    def account(self) -> tuple[str, str]:
        """Namespace and name of the requester's service account.

        Both are empty when the requester is no service account.
        """
        namespace, _, name = self.username.removeprefix(ACCOUNT_PREFIX).partition(":")
        is_account = self.username.startswith(ACCOUNT_PREFIX)
        return (namespace, name) if is_account and namespace and name else ("", "")

    def has(self, type: str) -> bool:
        """Return whether a condition of this type holds for the request.

        It holds whenever it is present, because Kubernetes never gives it the status False.
        """
        return any(each.type == type for each in self.conditions)


def read(given: Mapping[str, Any]) -> SigningRequest:
    """Convert an object of the API server; raise BadInput when it is no signing request."""
    signing_request = converted(given, _Object, "signing request")
    meta, spec, status = signing_request.metadata, signing_request.spec, signing_request.status
    return SigningRequest(
        name=meta.name,
        uid=meta.uid,
        signer=spec.signer_name,
        pem=_decoded(spec.request),
        usages=spec.usages,
        username=spec.username,
        groups=spec.groups,
        pod_name=_only(spec.extra.get(kubernetes_names.POD_NAME, ())),
        pod_uid=_only(spec.extra.get(kubernetes_names.POD_UID, ())),
        user_uid=spec.uid,
        extra=spec.extra,
        expires_s=spec.expiration_seconds,
        conditions=status.conditions,
        has_certificate=bool(status.certificate),
    )


def signer_of(given: Mapping[str, Any]) -> str:
    """Return the name of the signer that the raw signing request ``given`` is for.

    Only this field is read; the object is not converted to a `SigningRequest`.
    """
    spec = given.get("spec") or {}
    return str(spec.get("signerName") or "")


def conditioned(given: Mapping[str, Any], condition: Condition) -> dict[str, Any]:
    """Return the object with one more condition, for a PUT to ``/approval`` or ``/status``."""
    status = dict(given.get("status") or {})
    conditions = [*(status.get("conditions") or ()), msgspec.to_builtins(condition)]
    return {**given, **_KIND, "status": {**status, "conditions": conditions}}


def certified(given: Mapping[str, Any], chain_pem: str) -> dict[str, Any]:
    """Return the object with its certificate, for a PUT to ``/status``."""
    status = dict(given.get("status") or {})
    encoded = base64.b64encode(chain_pem.encode()).decode()
    return {**given, **_KIND, "status": {**status, "certificate": encoded}}


_KIND = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
"""Fields that every object of a PUT must have, and that objects in a list lack."""


def _decoded(text: str) -> bytes:
    """Decode base64; return empty bytes when ``text`` is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _only(values: tuple[str, ...]) -> str:
    """Return the only element of ``values``, an empty string when it has none or several."""
    return values[0] if len(values) == 1 else ""
