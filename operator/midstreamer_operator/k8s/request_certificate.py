"""Request a client certificate from the operator, for `midstreamer-k8s certs request`.

The private key is made on this machine.  The API server authenticates the user, and the operator
signs the certificate if the user may have the requested name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Api
from midstreamer.cluster.certificate_requests import ClusterIssuer
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, DeadlineExceeded
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import files, requested_credentials
from midstreamer.security.authority import trust_domain_of
from midstreamer.security.credentials import Credentials

LOOK_S = 3.0
"""Seconds between two checks of what the request waits for; the user sees a line at each change."""

Say = Callable[[str], None]
"""A function that shows one line to the user."""


def named(name: str, trust_domain: str) -> Identity:
    """Return the identity ``client/<name>``; ``name`` may begin with ``client/`` already.

    Raise BadInput when the name is not valid.
    """
    bare = name.removeprefix(f"{Kind.CLIENT}/")
    if "/" in bare:
        raise BadInput(
            f"{name!r} has several parts, as only names of pods have: give one part, such as desk-1"
        )
    return identity.make(trust_domain, Kind.CLIENT, bare)


async def trust_domain(api: Api, namespace: str, release: str) -> str:
    """Read the trust domain of an installation from its bundle of authorities.

    Raise BadInput when the bundle is missing or holds no certificate.
    """
    name = kubernetes_names.bundle(release)
    answer = await api.ask("GET", kubernetes_names.config_map(namespace, name))
    if answer.status == 404:
        raise BadInput(
            f"there is no ConfigMap {namespace}/{name}: no installation has this name, or its"
            " operator has never run; check --namespace and --release"
        )
    text = (answer.checked().get("data") or {}).get(kubernetes_names.BUNDLE_KEY, "")
    try:
        trusted = x509.load_pem_x509_certificates(str(text).encode())
    except ValueError as error:
        raise BadInput(
            f"ConfigMap {namespace}/{name} has no certificate under the key"
            f" {kubernetes_names.BUNDLE_KEY}; the operator writes the certificate there: check that"
            " the operator runs"
        ) from error
    return trust_domain_of(trusted[-1])


async def obtained(
    api: Api, me: Identity, namespace: str, release: str, *, timeout_s: float, say: Say
) -> Credentials:
    """Make a key, request a certificate for it, and return both.

    Raise Refused with the operator's reason when the request is denied, and DeadlineExceeded when
    there is no certificate after ``timeout_s``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = ClusterIssuer(api, namespace=namespace, release=release)
    work = asyncio.create_task(
        issuer.sign(requested_credentials.request(key, me), me), name="k8s.asking"
    )
    until_s = asyncio.get_running_loop().time() + timeout_s
    reported = ""
    try:
        while True:
            left_s = until_s - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({work}, timeout=max(0.0, min(LOOK_S, left_s)))
            if done:
                return requested_credentials.accepted(work.result(), key, me, time.time())
            if issuer.waiting not in ("", reported):
                reported = issuer.waiting
                say(reported)
            if left_s <= LOOK_S:
                raise DeadlineExceeded(
                    f"no certificate for {me.name} within --timeout {timeout_s:g} s:"
                    f" {reported or 'the API server has not answered yet'}"
                )
    finally:
        work.cancel()
        await asyncio.wait({work})


def kept(own: Credentials, directory: Path) -> Path:
    """Write key and certificate into the directory; return the path of the certificate.

    The SDK and the command `midstreamer` read them from there.  Raise BadInput when the directory
    cannot be written.
    """
    try:
        return files.keep(own, directory)
    except OSError as error:
        raise BadInput(
            f"--directory {directory}: {error.strerror}; name a folder that you may write to"
        ) from error
