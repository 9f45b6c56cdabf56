"""`certs request`: a key made here, certified by the operator because the API server knows us."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from midstreamer.cluster import naming
from midstreamer.cluster.api import Api
from midstreamer.cluster.requesting import ClusterIssuer
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, DeadlineExceeded
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import files, requested
from midstreamer.security.authority import trust_domain_of
from midstreamer.security.credentials import Credentials

LOOK_S = 3.0
"""What is waited for is told when it has lasted so long, and when it changes."""

Say = Callable[[str], None]


def named(name: str, trust_domain: str) -> Identity:
    """The client of a name, with or without ``client/`` before it; BadInput names what is wrong."""
    bare = name.removeprefix(f"{Kind.CLIENT}/")
    if "/" in bare:
        raise BadInput(f"{name!r} has several parts, which are for pods: give one, such as desk-1")
    return identity.make(trust_domain, Kind.CLIENT, bare)


async def trust_domain(api: Api, namespace: str, release: str) -> str:
    """The trust domain of an installation, as its authorities name it."""
    name = naming.bundle(release)
    answer = await api.ask("GET", naming.config_map(namespace, name))
    if answer.status == 404:
        raise BadInput(
            f"there is no ConfigMap {namespace}/{name}: no installation of this name, or its"
            " operator has never run; name it by --namespace and --release"
        )
    text = (answer.checked().get("data") or {}).get(naming.BUNDLE_KEY, "")
    try:
        trusted = x509.load_pem_x509_certificates(str(text).encode())
    except ValueError as error:
        raise BadInput(
            f"ConfigMap {namespace}/{name} holds no certificate below {naming.BUNDLE_KEY}:"
            " the operator writes it there"
        ) from error
    return trust_domain_of(trusted[-1])


async def obtained(
    api: Api, me: Identity, namespace: str, release: str, *, timeout_s: float, say: Say
) -> Credentials:
    """A certificate for a key that was made here; Refused with the operator's words."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = ClusterIssuer(api, namespace=namespace, release=release)
    work = asyncio.create_task(issuer.sign(requested.request(key, me), me), name="k8s.asking")
    until_s = asyncio.get_running_loop().time() + timeout_s
    told = ""
    try:
        while True:
            left_s = until_s - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({work}, timeout=max(0.0, min(LOOK_S, left_s)))
            if done:
                return requested.accepted(work.result(), key, me, time.time())
            if issuer.waiting not in ("", told):
                told = issuer.waiting
                say(told)
            if left_s <= LOOK_S:
                raise DeadlineExceeded(
                    f"no certificate for {me.name} within --timeout {timeout_s:g} s:"
                    f" {told or 'the API server has not answered yet'}"
                )
    finally:
        work.cancel()
        await asyncio.wait({work})


def kept(own: Credentials, directory: Path) -> Path:
    """Write key and certificate where the SDK and `midstreamer` look for them; the file."""
    try:
        return files.keep(own, directory)
    except OSError as error:
        raise BadInput(
            f"--directory {directory}: {error.strerror}; name a folder that you may write to"
        ) from error
