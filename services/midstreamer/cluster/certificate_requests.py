"""Request certificates in a Kubernetes cluster: an issuer for `security.requested_credentials`.

A signing request is posted to the API server, which adds the account and the pod of the sender.
The operator (the signer) compares account and pod with the requested identity, approves or denies
the request, and puts the certificate into it.  This module watches the request until it is
answered.
Afterwards it reads the trusted authorities from the installation's bundle, which then includes the
authority that signed the certificate.

While the operator is not running, the request stays open; the operator answers it later.  This
module deletes the request once its answer has been read, or once nobody waits for it any more.  If
the pod's role does not allow that, Kubernetes deletes the request after some time.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Api, Change, Object
from midstreamer.domain.errors import BadInput, MidstreamerError, Refused, Unavailable, shortened
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security.requested_credentials import Signed
from midstreamer.telemetry import logs

ASK_S = 300.0
"""Maximum seconds to wait for the answer to one signing request; then a new request is made."""
EXPIRES_S = 86_400
"""Requested life of a certificate in seconds; the signer may grant less."""
WATCH_S = 60.0
"""Seconds after which a watch ends and is started again."""
AGAIN_S = 1.0
"""Seconds before a watch that ended is started again."""
CLEAN_S = 3.0
"""Maximum seconds for deleting a signing request."""

log = logs.get(__name__)


class ClusterIssuer:
    """An `Issuer` that uses the signers of one installation in this Kubernetes cluster."""

    def __init__(self, api: Api, *, namespace: str, release: str) -> None:
        """Use the signers of the installation with this ``namespace`` and Helm ``release``."""
        self._api = api
        self._namespace = namespace
        self._release = release
        self._may_delete = True
        self.ask_s = ASK_S
        self.waiting = ""
        """Message that says what the open signing request waits for; empty when no request is
        open."""

    async def sign(self, request_pem: bytes, identity: Identity) -> Signed:
        """Request a certificate.  Raises Refused, with the signer's message, if the signer denies
        the request."""
        name = await self._post(request_pem, identity)
        self.waiting = (
            f"signing request {name} was neither approved nor denied yet; is the operator of"
            f" {self._namespace}/{self._release} running?"
        )
        log.info("certificate.requested", request=name, identity=identity.name)
        try:
            shown = await self._answered(name)
            return Signed.of_pem(shown, await self._bundle())
        finally:
            self.waiting = ""
            await self._remove(name)

    async def _post(self, request_pem: bytes, identity: Identity) -> str:
        spec = {
            "request": base64.b64encode(request_pem).decode(),
            "signerName": kubernetes_names.signer_of(identity.kind, self._namespace, self._release),
            "usages": list(kubernetes_names.usages(identity.kind)),
            "expirationSeconds": EXPIRES_S,
        }
        body: Object = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {
                "generateName": kubernetes_names.request_prefix(self._namespace, identity.label)
            },
            "spec": spec,
        }
        answer = await self._api.ask("POST", kubernetes_names.REQUESTS, body)
        if answer.status == 403:
            raise Refused(f"{self._unnamed(identity)}: {answer.error().message}")
        return str(answer.checked()["metadata"]["name"])

    def _unnamed(self, identity: Identity) -> str:
        """Return a message for an account that may not create signing requests.  The message says
        how an administrator gives the account this right.

        The message is short, because tools cut long lines.
        """
        fleet = f"{self._namespace}/{self._release}"
        if identity.kind is Kind.CLIENT:
            role = f"midstreamer:{self._namespace}:{self._release}:client"
            return (
                f"no right to request certificates from {fleet}; an administrator must bind the"
                f" ClusterRole {role}"
            )
        return (
            f"no right to request certificates; an administrator must add {fleet} to"
            " `installations` of the chart midstreamer-cluster"
        )

    async def _answered(self, name: str) -> bytes:
        """Watch a signing request until its certificate is there, and return it as PEM.

        A watch that ends or breaks is started again.
        """
        while True:
            try:
                async with aclosing(self._watched(name)) as changes:
                    async for change in changes:
                        if change.type == "ERROR":
                            break  # the server cannot continue this watch: start a new one
                        if shown := _certificate(name, change):
                            return shown
            except Unavailable as error:
                log.info("certificate.watch_broken", request=name, detail=error.message)
            await asyncio.sleep(AGAIN_S)

    def _watched(self, name: str) -> AsyncGenerator[Change, None]:
        only = {"fieldSelector": f"metadata.name={name}"}
        return self._api.watch(kubernetes_names.REQUESTS, only, lasts_s=WATCH_S)

    async def _bundle(self) -> bytes:
        name = kubernetes_names.bundle(self._release)
        answer = await self._api.ask("GET", kubernetes_names.config_map(self._namespace, name))
        text = (answer.checked().get("data") or {}).get(kubernetes_names.BUNDLE_KEY, "")
        if not text:
            raise BadInput(
                f"ConfigMap {self._namespace}/{name} has no key {kubernetes_names.BUNDLE_KEY};"
                " the operator writes the trusted authorities there"
            )
        return str(text).encode()

    async def _remove(self, name: str) -> None:
        """Delete a signing request, within `CLEAN_S`; a failure does no harm and is ignored."""
        if not self._may_delete:
            return
        with suppress(MidstreamerError, TimeoutError):
            async with asyncio.timeout(CLEAN_S):
                answer = await self._api.ask("DELETE", f"{kubernetes_names.REQUESTS}/{name}")
                self._may_delete = answer.status not in (401, 403)


def _certificate(name: str, change: Change) -> bytes:
    """Return the certificate in a signing request, as PEM; empty if the request has none yet.

    Raises Refused if the request was denied or has failed.  Raises BadInput if it was deleted, or
    if its certificate cannot be decoded.
    """
    if change.type == "DELETED":
        raise BadInput(f"signing request {name} was deleted before it was answered")
    status = change.object.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") in ("Denied", "Failed"):
            why = shortened(str(condition.get("message") or "no reason was given"), 1000)
            raise Refused(
                f"signing request {name} was {condition['type'].lower()}: {why}",
                reason=str(condition.get("reason") or ""),
            )
    try:
        return base64.b64decode(status.get("certificate") or "", validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadInput(f"the certificate of signing request {name} is not base64") from error
